"""Rivals that weigh class texts against words: InterNeg, DNM, TANL, NegRefine, CMA.

NegLabel, on which all but the last build, is in evaluation.scores.negative_labels with its groups.
"""
