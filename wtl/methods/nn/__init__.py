"""Parts of networks, free of tasks and training.

Shape letters, here and everywhere: B contexts or rows, S segments of a context, F frames of a segment,
L tokens (S x F), Q queries of a context, O observation, P points, D coordinates of a position, V vectors of a view,
A action, G goal, M mixture components, E embedding, H heads, C candidates.
"""
