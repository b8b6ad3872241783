"""The reference: the policy that a KL penalty pulls towards, or that a margin is measured from. None: uniform play."""

from ..backend import array_module
from .learner import Learner
from .setting import Setting

WITHOUT = {"preference_loss": ("simpo",), "beta": (0.0,)}  # no reference is asked for
REFERENCE = {
    "beta": Setting(0.003, "β, weight of the KL penalty towards the reference; 0 for none; dpo: of the margin", low=0),
    "reference": Setting("uniform", "the reference: uniform over legal cells, initial (the frozen first policy), or a "
                         "policy.npz or run folder", unless=WITHOUT),
    "sync_ref_model": Setting(False, "move the reference towards the policy now and then", unless=WITHOUT),
    "ref_model_mixup_alpha": Setting(0.6, "how far it moves: reference ← α·policy + (1−α)·reference", low=0, high=1,
                                     unless={"sync_ref_model": (False,)}),
    "ref_model_sync_steps": Setting(512, "how many steps of the optimiser apart", low=1,
                                    unless={"sync_ref_model": (False,)}),
}


class WithReference(Learner):
    """A `Learner` that has a reference and compares games of one board with each other."""

    hyperparameters = Learner.hyperparameters | REFERENCE
    on_large_boards = {"num_boards": 32, "num_generations": 8, "num_minibatches": 4}
    needs = ("reference",)

    def __init__(self, settings, env, policy, reference=None, team=None, rows=None):
        super().__init__(settings, env, policy, team, rows)
        self.reference = reference

    @classmethod
    def check(cls, settings):
        if settings.num_generations < 2:
            raise ValueError(f"num_generations must be ≥ 2 with {settings.algorithm}, not {settings.num_generations}: "
                             "a group of one has nothing to compare with")
        if settings.sync_ref_model and settings.reference == "uniform":
            raise ValueError("sync_ref_model needs a reference that can move: --reference initial, or a policy")

    def ref_log_prob(self, rollout):
        """log π_ref(a|s) of every shot played: (S,)."""
        if self.reference is None:
            return uniform_log_prob(rollout)
        return self.in_pieces(rollout, lambda piece: self.ref_distribution(piece).log_prob(piece.actions))

    def ref_log_probs(self, rollout):
        """log π_ref(·|s) of every action: (S, A)."""
        if self.reference is None:
            uniform = uniform_log_prob(rollout)[:, None]
            return array_module(uniform).broadcast_to(uniform, rollout.legal.shape)
        return self.in_pieces(rollout, lambda piece: self.ref_distribution(piece).log_probs())

    def ref_distribution(self, piece):
        return self.reference.distribution(piece.observations, piece.legal, self.settings.temperature)

    def learn_from_minibatch(self, minibatch):
        measured = super().learn_from_minibatch(minibatch)
        self.sync_reference()
        return measured

    def sync_reference(self):
        """π_ref ← α·π + (1−α)·π_ref every `ref_model_sync_steps` steps of the optimiser (TRL's `sync_ref_model`)."""
        s = self.settings
        if s.sync_ref_model and self.optimiser.steps % s.ref_model_sync_steps == 0:
            reference, alpha = self.reference.parameters, s.ref_model_mixup_alpha
            reference += alpha * (self.policy.parameters - reference)

    def networks(self):
        return super().networks() | ({} if self.reference is None else {"reference": self.reference.network})


def uniform_log_prob(rollout):
    """log of 1 / legal actions, for every shot: (S,)."""
    xp, dtype = array_module(rollout.legal), rollout.log_probs.dtype
    return -xp.log(rollout.legal.astype(dtype) @ xp.ones(rollout.legal.shape[1], dtype))
