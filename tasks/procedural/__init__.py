"""This folder generates families procedurally: endlessly many that look like Meta-World's and cost almost nothing.

A hand, an object and sometimes a second point move without forces: an object is carried when it is gripped,
pushed when it is touched, or slides along its own rail; or there is nothing to move and only a point to reach. How a
family wants its object to be approached, touched and moved, where its goal comes from and how it rewards is drawn
at random, so no family can be recognised and each has to be read from its demonstration. Trap: they are training
material and nothing is evaluated on them. Source of the idea: domain randomisation, arXiv 1703.06907.
"""
