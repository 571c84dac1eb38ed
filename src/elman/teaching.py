"""Self-training: a classifier that has learned from labelled texts labels the unlabelled ones, and another learns from
all.

The labels are probabilities, so that doubt is learned as doubt (Lee, "Pseudo-label", 2013; Hinton et al., "Distilling
the knowledge in a neural network", 2015; Xie et al., "Self-training with noisy student", 2020: the pupil learns under
dropout, from a teacher without). The teacher is the network and the regression on words and pairs of words together:
what the regression alone knows the pupil learns too. Where classes have weights, so has the world that the teacher
speaks of: its labels are taken back to the one that is, since the pupil's loss weights them again. Torch-free.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from elman.class_baseline import TF_IDF
from elman.class_corpus import Corpus
from elman.class_data import Coded
from elman.class_measures import fit_scales, probabilities
from elman.class_network import ClassNetwork


def taught(corpus: Corpus, teacher: ClassNetwork, judged: npt.NDArray[np.floating[Any]]) -> Corpus:
    """The same texts, all of which are trained on: the unlabelled ones with what the teacher thinks of them.

    judged: its logits of those held back (N, C).
    """
    held: list[npt.NDArray[np.floating[Any]]] = [judged, corpus.held_logits[TF_IDF]]
    scales = fit_scales(held, corpus.held.classes, corpus.several)
    texts = corpus.unlabelled
    logits = scales[0] * teacher(texts) + scales[1] * corpus.baselines.logits(texts)[TF_IDF]
    if corpus.weights is not None:
        logits = logits - np.log(corpus.weights)
    own = _as_probabilities(corpus.training.classes, len(corpus.classes))
    classes = np.concatenate((own, probabilities(logits, corpus.several).astype(np.float32)))
    return replace(corpus, training=Coded((*corpus.training.codes, *texts), classes))


def _as_probabilities(classes: npt.NDArray[np.generic], count: int) -> npt.NDArray[np.float32]:
    """(N, C) of certain labels."""
    if classes.ndim > 1:
        return classes.astype(np.float32)
    return np.eye(count, dtype=np.float32)[classes.astype(np.int64)]
