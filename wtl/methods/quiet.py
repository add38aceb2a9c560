"""learn2learn without the page that gym, which it drags in and nobody here uses, prints at import."""

from __future__ import annotations

import warnings

import gym_notices.notices

gym_notices.notices.notices.clear()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import learn2learn

__all__ = ["learn2learn"]
