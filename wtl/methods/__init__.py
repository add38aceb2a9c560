"""Methods: functions from a context to a policy. They never import one another; `registry` lists them."""
