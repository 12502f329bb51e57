"""Rank reference vectors by how near they are to a query vector.

Example: python tools/compare_vectors.py --query-vector query.npy --reference-vectors refs/a.npy refs/b.npy --top-k 3
--output similarity.json
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from runtime.arguments import Parser, add_options, flag, read_options
from search.neighbours import SCORES, Metric, make_index, nearest, normalised
from search.vectors import read_vectors
from utils import EXIT_DONE, UserError, command, write_json


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to compare."""

    query_vector: Path = flag(MISSING, "the vector to compare: .npy, .npz or .json; a file or folder of several gives "
                                       "an answer for each")
    reference_vectors: tuple[Path, ...] = flag(MISSING, "files of vectors, and folders of such files")
    top_k: int = flag(5, "nearest references told", at_least=1)
    metric: Metric = flag("cosine", "cosine similarity, dot product, or l2: the distance, where small is near")
    normalize: bool = flag(False, "bring all vectors to length 1 first (cosine is the same either way)")
    output: Path | None = flag(None, "write the answer as JSON", writes="file")


def build_parser() -> Parser:
    """The flags of this command."""
    parser = Parser(prog="tools/compare_vectors.py", description=__doc__)
    add_options(parser, Options)
    return parser


@command
def main(argv: list[str] | None = None) -> int:
    """Compare, print and write."""
    options = read_options(build_parser().parse_args(argv), Options)
    queries, references = read_vectors([options.query_vector]), read_vectors(options.reference_vectors)
    length, expected = queries.rows.shape[1], references.rows.shape[1]
    if length != expected:
        raise UserError(f"vectors of {length} numbers in {options.query_vector}",
                        f"{expected}, as in {options.reference_vectors[0]}", "compare features of one model")
    index = make_index(normalised(references.rows) if options.normalize else references.rows, options.metric)
    rows, scores = nearest(index, normalised(queries.rows) if options.normalize else queries.rows, options.top_k)
    key = SCORES[options.metric]
    answers = [{"query": name, "metric": options.metric, "top_k": options.top_k,
                "results": [{"name": references.names[row], key: score}
                            for row, score in zip(ids, values, strict=True)]}
               for name, ids, values in zip(queries.names, rows.tolist(), scores.tolist(), strict=True)]
    for answer in answers:
        print(f"{key.replace('_', ' ')} to {answer['query']}")
        for result in answer["results"]:
            print(f"{result[key]:12.6f}  {result['name']}")
    if options.output:
        write_json(options.output, answers[0] if len(answers) == 1 else answers)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
