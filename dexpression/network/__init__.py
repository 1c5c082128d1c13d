"""The network, its loss and its transforms: every class of ours that a fastai export names.

A fastai export stores these classes by their paths, so a class that is moved or renamed needs a new export.
"""
