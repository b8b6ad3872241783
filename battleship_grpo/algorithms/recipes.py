"""Every algorithm by name: where it comes from, its key idea in a line, and the settings that make it.

Most of GRPO's descendants are GRPO with a setting or two changed, so they are rows of this table and not files.
`kind` is the class that runs a recipe; `settings` are its defaults where they differ from that class's own, and
`from_a_policy` those of runs that go on from another one's policy (`--init`). What defines an algorithm comes from its
paper; step sizes were tuned on `mini`.
"""

from typing import NamedTuple

from .dpo import DPO
from .grpo import GRPO
from .imitation import SFT, Distill
from .ppo import PPO
from .pretrain import Pretrain
from .ranked_grpo import RankedGRPO
from .reinforce import Reinforce
from .trpo import TRPO


class Recipe(NamedTuple):
    kind: type
    paper: str
    idea: str
    settings: dict = {}
    from_a_policy: dict = {}


RECIPES = {
    # ---- before the group
    "pretrain": Recipe(Pretrain, "Chen et al. 2019, Learning by cheating",
                       "predict what is hidden: labels are free once a game is over"),
    "sft": Recipe(SFT, "Ross et al. 2011, DAgger", "imitate a teacher's shots, on its games or on one's own"),
    "distill": Recipe(Distill, "Hinton et al. 2015; Agarwal et al. 2024, GKD",
                      "imitate a teacher's probabilities: soft targets say more than a shot"),
    "reinforce": Recipe(Reinforce, "Williams 1992", "make the shots of good games more likely"),
    "trpo": Recipe(TRPO, "Schulman et al. 2015", "the largest natural-gradient step within a bound on the KL"),
    "ppo": Recipe(PPO, "Schulman et al. 2017", "clip the ratio instead: several cheap steps per batch"),
    "dpo": Recipe(DPO, "Rafailov et al. 2023", "learn from which of two games was better: no reward, no critic"),
    "ipo": Recipe(DPO, "Azar et al. 2024", "DPO with a target for the margin, so that it stops growing",
                  {"preference_loss": "ipo"}),
    "simpo": Recipe(DPO, "Meng et al. 2024", "DPO by mean log-probability, without a reference",
                    {"preference_loss": "simpo", "beta": 2.0, "simpo_gamma": 1.0, "reference": "uniform"}),
    "ranked_grpo": Recipe(RankedGRPO, "tutorials; Burges et al. 2005, RankNet",
                          "rank the group and prefer the better game in each pair"),
    # ---- GRPO and its family
    "grpo": Recipe(GRPO, "Shao et al. 2024, DeepSeekMath", "compare games on the same board with each other",
                   from_a_policy={"supervision": "process", "advantage_baseline": "luck_adjusted", "beta": 0.0,
                                  "learning_rate": 1.2e-3}),
    "grpo_process": Recipe(GRPO, "Shao et al. 2024, DeepSeekMath §4.1.3",
                           "process supervision: every shot has a reward of its own", {"supervision": "process"}),
    "dr_grpo": Recipe(GRPO, "Liu et al. 2025", "no division by lengths or deviations: both are biases",
                      {"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.0}),
    "dapo": Recipe(GRPO, "Yu et al. 2025", "clip higher above, every token the same, only boards that teach",
                   {"loss_type": "dapo", "epsilon_high": 0.28, "dynamic_sampling": True, "beta": 0.0}),
    "bnpo": Recipe(GRPO, "TRL's loss_type", "every token of a minibatch the same", {"loss_type": "bnpo"}),
    "rloo": Recipe(GRPO, "Ahmadian et al. 2024", "REINFORCE, compared with the other games of the group",
                   {"surrogate": "policy_gradient", "advantage_baseline": "leave_one_out", "scale_rewards": "none",
                    "beta": 0.0, "num_boards": 16, "num_minibatches": 1}),
    "loop": Recipe(GRPO, "Chen et al. 2025", "RLOO's advantage under PPO's clip",
                   {"advantage_baseline": "leave_one_out", "scale_rewards": "none", "beta": 0.0}),
    "magistral": Recipe(GRPO, "Mistral AI 2025", "no KL, deviations over the batch, clip higher, boards that teach",
                        {"scale_rewards": "centred", "epsilon_high": 0.28, "dynamic_sampling": True, "beta": 0.0}),
    "gspo": Recipe(GRPO, "Zheng et al. 2025", "one ratio per game, the geometric mean of its tokens'",
                   {"importance_sampling_level": "sequence", "loss_type": "grpo", "epsilon": 3e-4,
                    "epsilon_high": 4e-4, "beta": 0.0, "num_minibatches": 4}),
    "cispo": Recipe(GRPO, "MiniMax 2025", "clip the weight, not the token: none is left out",
                    {"surrogate": "cispo", "epsilon_high": 5.0, "beta": 0.0}),  # the bound: ScaleRL 2025; M1 has none
    "sapo": Recipe(GRPO, "Gao et al. 2025", "a soft gate in place of the clip",
                   {"surrogate": "sapo", "loss_type": "grpo", "beta": 0.0}),
    "maxrl": Recipe(GRPO, "Tajwar et al. 2026", "divide by the mean score: hard boards count more",
                    {"scale_rewards": "mean", "beta": 0.0}),
    "two_sided": Recipe(GRPO, "Prime Intellect 2025, INTELLECT-2", "bound the ratio of bad games, too",
                        {"delta": 4.0, "beta": 0.001}),
    "top_entropy": Recipe(GRPO, "Wang et al. 2025", "learn from the fifth of the tokens that was most undecided",
                          {"top_entropy_quantile": 0.2, "epsilon_high": 0.28, "beta": 0.0}),
}
