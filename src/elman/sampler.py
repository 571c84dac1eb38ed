"""Optuna's TPE, with random numbers by seed and number of the trial: the same study is drawn the same way, and two
processes never draw the same trial. Needs Optuna."""

from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

_TRIALS = 1_000_003  # between the numbers of two seeds


class Sampler(BaseSampler):
    """A new `TPESampler` (Bergstra et al., "Algorithms for hyper-parameter optimization", 2011) for each trial."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._own = TPESampler(seed=seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._own = TPESampler(seed=(self.seed * _TRIALS + trial.number) % 2**32)
        self._own.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._own.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._own.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._own.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self._own.after_trial(study, trial, state, values)
