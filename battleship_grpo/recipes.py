"""Every algorithm by name: where it comes from, its key idea in a line, and the settings that make it.

Most of GRPO's descendants are GRPO with a setting or two changed, so they are rows of this table and not files.
`method` is the class in `algorithms` that runs a recipe; `settings` are its defaults where they differ from those in
`settings.Settings`: what makes the algorithm comes from its paper, step sizes were tuned on `mini`.
"""

from typing import NamedTuple


class Recipe(NamedTuple):
    method: str
    paper: str
    idea: str
    settings: dict


PER_SHOT = {"num_boards": 512, "num_generations": 1, "scale_rewards": "batch", "supervision": "process"}
IMITATION = {"num_generations": 1, "num_minibatches": 8, "batch_shots": 2048, "temperature": 0.1,
             "teacher_temperature": 0.1, "learning_rate": 2e-2}

RECIPES = {
    # ---- before the group
    "sft": Recipe("sft", "Ross et al. 2011, DAgger", "imitate a teacher's shots, on its games or on one's own",
                  IMITATION),
    "distill": Recipe("distill", "Hinton et al. 2015; Agarwal et al. 2024, GKD",
                      "imitate a teacher's probabilities: soft targets say more than a shot", IMITATION),
    "reinforce": Recipe("reinforce", "Williams 1992", "make the shots of good games more likely",
                        PER_SHOT | {"num_minibatches": 1, "advantage_baseline": "batch_mean", "gamma": 0.9,
                                    "learning_rate": 1e-2}),
    "trpo": Recipe("trpo", "Schulman et al. 2015", "the largest natural-gradient step within a bound on the KL",
                   PER_SHOT | {"max_kl": 0.03}),
    "ppo": Recipe("ppo", "Schulman et al. 2017", "clip the ratio instead: several cheap steps per batch",
                  PER_SHOT | {"num_minibatches": 4}),
    "dpo": Recipe("dpo", "Rafailov et al. 2023", "learn from which of two games was better: no reward, no critic",
                  {"beta": 0.1, "reference": "initial", "preference_loss": "sigmoid", "learning_rate": 3e-3}),
    "ipo": Recipe("dpo", "Azar et al. 2024", "DPO with a target for the margin, so that it stops growing",
                  {"beta": 0.1, "reference": "initial", "preference_loss": "ipo", "learning_rate": 3e-3}),
    "simpo": Recipe("dpo", "Meng et al. 2024", "DPO by mean log-probability, without a reference",
                    {"beta": 2.0, "simpo_gamma": 1.0, "preference_loss": "simpo", "learning_rate": 3e-3}),
    "ranked_grpo": Recipe("ranked_grpo", "tutorials; Burges et al. 2005, RankNet",
                          "rank the group and prefer the better game in each pair",
                          {"beta": 0.02, "importance_sampling_level": "sequence", "ranking_beta": 5.0}),
    # ---- GRPO and its family
    "grpo": Recipe("grpo", "Shao et al. 2024, DeepSeekMath", "compare games on the same board with each other", {}),
    "grpo_process": Recipe("grpo", "Shao et al. 2024, DeepSeekMath §4.1.3",
                           "process supervision: every shot has a reward of its own", {"supervision": "process"}),
    "dr_grpo": Recipe("grpo", "Liu et al. 2025", "no division by lengths or deviations: both are biases",
                      {"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.0}),
    "dapo": Recipe("grpo", "Yu et al. 2025", "clip higher above, every token the same, only boards that teach",
                   {"loss_type": "dapo", "epsilon_high": 0.28, "dynamic_sampling": True, "beta": 0.0}),
    "bnpo": Recipe("grpo", "TRL's loss_type", "every token of a minibatch the same", {"loss_type": "bnpo"}),
    "rloo": Recipe("grpo", "Ahmadian et al. 2024", "REINFORCE, compared with the other games of the group",
                   {"surrogate": "policy_gradient", "advantage_baseline": "leave_one_out", "scale_rewards": "none",
                    "beta": 0.0, "num_boards": 32, "num_minibatches": 1, "learning_rate": 5e-3}),
    "loop": Recipe("grpo", "Chen et al. 2025", "RLOO's advantage under PPO's clip",
                   {"advantage_baseline": "leave_one_out", "scale_rewards": "none", "beta": 0.0}),
    "magistral": Recipe("grpo", "Mistral AI 2025", "no KL, deviations over the batch, clip higher, boards that teach",
                        {"scale_rewards": "batch", "epsilon_high": 0.28, "dynamic_sampling": True, "beta": 0.0}),
    "gspo": Recipe("grpo", "Zheng et al. 2025", "one ratio per game, the geometric mean of its tokens'",
                   {"importance_sampling_level": "sequence", "loss_type": "grpo", "epsilon": 3e-4,
                    "epsilon_high": 4e-4, "beta": 0.0, "num_minibatches": 4}),
    "cispo": Recipe("grpo", "MiniMax 2025", "clip the weight, not the token: none is left out",
                    {"surrogate": "cispo", "epsilon_high": 5.0, "scale_rewards": "batch", "beta": 0.0}),
    "sapo": Recipe("grpo", "Gao et al. 2025", "a soft gate in place of the clip", {"surrogate": "sapo", "beta": 0.0}),
    "maxrl": Recipe("grpo", "Tajwar et al. 2026", "divide by the mean score: hard boards count more",
                    {"scale_rewards": "mean", "beta": 0.0}),
    "two_sided": Recipe("grpo", "Prime Intellect 2025, INTELLECT-2", "bound the ratio of bad games, too",
                        {"delta": 4.0, "beta": 0.001}),
    "top_entropy": Recipe("grpo", "Wang et al. 2025", "learn from the fifth of the tokens that was most undecided",
                          {"top_entropy_quantile": 0.2, "epsilon_high": 0.28, "beta": 0.0}),
}
