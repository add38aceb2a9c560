"""Watch-Try-Learn as in the paper: a trial and a retrial policy that imitate experts."""
