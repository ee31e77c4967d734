"""From a question to maps with their checks: `explain`, the plan of a job, its passes, and the explanation.

- `explain`: checks what is asked and assembles the `Explanation` (`explanation`; `saved` reads it back).
- `planner`, `passes`, `totals`: the job. Nothing is computed twice.
- `targets`, `target_names`: what is explained, and how it is named.
- `notes`, `conservation`, `decomposition`, `results`: the checks that go with a map.
- `layer_names`, `rowwise`, `captions`: modules as names, values of a target per image, words beneath a picture.
"""
