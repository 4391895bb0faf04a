"""Rivals that look at fit images: subspaces (ViM, NECO), guidance by neighbours (NNGuide), class boundaries (fDBD).

The distances KNN and Mahalanobis, which our own score builds on, are in evaluation.scores.features.distances.
"""
