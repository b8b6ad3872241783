"""Every algorithm by name: where it comes from, its key idea in a line, and the settings that make it.

Most of GRPO's descendants change a setting or two. Defaults are those of `kind.Settings`, unless set here: `settings`
hold on all boards, `small` up to 6×6, `large` above. What defines an algorithm comes from its paper; step sizes were
tuned on `mini`.
"""

from typing import NamedTuple

from .dpo import DPO
from .grpo import GRPO
from .imitation import SFT, Distill, Pretrain
from .ppo import PPO
from .ranked_grpo import RankedGRPO
from .reinforce import Reinforce
from .trpo import TRPO

LARGEST_SMALL_BOARD = 6
LARGE = {"network": "placement", "num_boards": 256}  # games are long there, and fewer fill a batch
LARGE_GROUPS = {"network": "placement", "num_boards": 32, "num_generations": 8, "num_minibatches": 4,
                "learning_rate": 3e-3}
LARGE_GRPO = LARGE_GROUPS | {"learning_rate": 6e-3, "beta": 0.001}
LARGE_PAIRS = LARGE_GROUPS | {"learning_rate": 7.5e-4}
LARGE_IMITATION = {"network": "placement", "learning_rate": 5e-3}


class Recipe(NamedTuple):
    kind: type
    paper: str
    idea: str
    settings: dict = {}
    large: dict = LARGE
    init_slowdown: float = 1.0  # divides the learning rate of runs that go on from a trained policy (`--init`)
    small: dict = {}

    def on(self, board_size):
        """What is set on a board of this size."""
        return (self.large if board_size > LARGEST_SMALL_BOARD else self.small) | self.settings


def grpo(paper, idea, small=None, **settings):
    """A row of GRPO's family. An already trained policy takes smaller steps."""
    return Recipe(GRPO, paper, idea, settings, LARGE_GRPO, init_slowdown=10.0, small=small or {})


RECIPES = {
    # ---- before the group
    "pretrain": Recipe(Pretrain, "Chen et al. 2019, Learning by cheating",
                       "predict what is hidden: labels are free once a game is over", {"hidden_sizes": (512,)},
                       {"network": "placement", "hidden_sizes": (32,) * 6, "num_boards": 64, "num_minibatches": 16,
                        "temperature": 0.05}),
    "sft": Recipe(SFT, "Ross et al. 2011, DAgger", "imitate a teacher's shots, on its games or on one's own",
                  large=LARGE_IMITATION),
    "distill": Recipe(Distill, "Hinton et al. 2015; Agarwal et al. 2024, GKD",
                      "imitate a teacher's probabilities: soft targets say more than a shot", large=LARGE_IMITATION),
    "reinforce": Recipe(Reinforce, "Williams 1992", "make the shots of good games more likely",
                        large=LARGE | {"learning_rate": 2.5e-3}),
    "trpo": Recipe(TRPO, "Schulman et al. 2015", "the largest natural-gradient step within a bound on the KL",
                   large=LARGE | {"learning_rate": 7.5e-4}),
    "ppo": Recipe(PPO, "Schulman et al. 2017", "clip the ratio instead: several cheap steps per batch",
                  large=LARGE | {"learning_rate": 3e-3, "critic_learning_rate": 7.5e-4}),
    "dpo": Recipe(DPO, "Rafailov et al. 2023", "learn from which of two games was better: no reward, no critic",
                  large=LARGE_PAIRS),
    "ipo": Recipe(DPO, "Azar et al. 2024", "DPO with a target for the margin, so that it stops growing",
                  {"preference_loss": "ipo"}, LARGE_PAIRS),
    "simpo": Recipe(DPO, "Meng et al. 2024", "DPO by mean log-probability, without a reference",
                    {"preference_loss": "simpo", "beta": 2.0, "simpo_gamma": 1.0}, LARGE_PAIRS),
    "ranked_grpo": Recipe(RankedGRPO, "tutorials; Burges et al. 2005, RankNet",
                          "rank the group and prefer the better game in each pair", large=LARGE_GROUPS),
    # ---- GRPO and its family
    "grpo": grpo("Shao et al. 2024, DeepSeekMath", "compare games on the same board with each other",
                 small={"epsilon_high": 1.0}),
    "grpo_process": grpo("Shao et al. 2024, DeepSeekMath §4.1.3",
                         "process supervision: every shot has a reward of its own", supervision="process"),
    "grpo_hindsight": grpo("Burch et al. 2018, AIVAT",
                           "process rewards less what the hidden fleet explains; a language model has no such thing",
                           supervision="process", advantage_baseline="control_variates"),
    "dr_grpo": grpo("Liu et al. 2025", "no division by lengths or deviations: both are biases",
                    loss_type="dr_grpo", scale_rewards="none", beta=0.0),
    "dapo": grpo("Yu et al. 2025", "clip higher above, every token the same, only boards that teach",
                 loss_type="dapo", epsilon_high=0.28, dynamic_sampling=True, beta=0.0),
    "bnpo": grpo("TRL's loss_type", "every token of a minibatch the same", loss_type="bnpo"),
    "rloo": grpo("Ahmadian et al. 2024", "REINFORCE, compared with the other games of the group",
                 surrogate="policy_gradient", advantage_baseline="leave_one_out", scale_rewards="none", beta=0.0,
                 num_boards=16, num_minibatches=1),
    "loop": grpo("Chen et al. 2025", "RLOO's advantage under PPO's clip",
                 advantage_baseline="leave_one_out", scale_rewards="none", beta=0.0),
    "magistral": grpo("Mistral AI 2025", "no KL, deviations over the batch, clip higher, boards that teach",
                      scale_rewards="centred", epsilon_high=0.28, dynamic_sampling=True, beta=0.0),
    "gspo": grpo("Zheng et al. 2025", "one ratio per game, the geometric mean of its tokens'",
                 importance_sampling_level="sequence", loss_type="grpo", epsilon=3e-4, epsilon_high=4e-4, beta=0.0,
                 num_minibatches=4),
    "cispo": grpo("MiniMax 2025", "clip the weight, not the token: none is left out",
                  surrogate="cispo", epsilon_high=5.0, beta=0.0),  # the bound: ScaleRL 2025; M1 has none
    "sapo": grpo("Gao et al. 2025", "a soft gate in place of the clip", surrogate="sapo", loss_type="grpo", beta=0.0),
    "maxrl": grpo("Tajwar et al. 2026", "divide by the mean score: hard boards count more",
                  scale_rewards="mean", beta=0.0),
    "two_sided": grpo("Prime Intellect 2025, INTELLECT-2", "bound the ratio of bad games, too", delta=4.0, beta=0.001),
    "top_entropy": grpo("Wang et al. 2025", "learn from the fifth of the tokens that was most undecided",
                        top_entropy_quantile=0.2, epsilon_high=0.28, beta=0.0),
}
