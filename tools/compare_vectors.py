"""Rank reference vectors by how near they are to a query vector.

Example: python tools/compare_vectors.py --query-vector my_clusters --reference-vectors my_clusters
"""

from __future__ import annotations

import sys
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data.output_folder import output_lock
from runtime.arguments import Parser, flag
from runtime.next_step import CHECKPOINT, PICTURES, print_next
from search.neighbours import SCORES, Index, Metric, normalised
from search.vectors import read_vectors, same_rows
from utils import EXIT_DONE, UserError, command, write_json


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What to compare."""

    query_vector: Path = flag(MISSING, "the vector to compare: .npy, .npz or .json; for a file or folder of several "
                                       "there is an answer for each")
    reference_vectors: tuple[Path, ...] = flag(MISSING, "files of vectors, and folders of such files")
    top_k: int = flag(5, "nearest references listed", at_least=1, common=True)
    metric: Metric = flag("cosine", "cosine similarity, dot product, or l2, the Euclidean distance", common=True)
    normalize: bool = flag(False, "scale all vectors to length 1 first (no effect on cosine)", common=True)
    output: Path | None = flag(None, "write the answer as JSON", writes="file", common=True)


def build_parser() -> Parser[Flags]:
    """The flags of this command."""
    return Parser(Flags, prog="tools/compare_vectors.py", description=__doc__)


@command
def main(argv: list[str] | None = None) -> int:
    """Compare, print and write."""
    flags = build_parser().read(argv)
    queries, references = read_vectors([flags.query_vector]), read_vectors(flags.reference_vectors)
    length, expected = queries.rows.shape[1], references.rows.shape[1]
    if length != expected:
        raise UserError(f"vectors of {length} numbers in {flags.query_vector}",
                        f"{expected}, as in {flags.reference_vectors[0]}", "compare features of one model")
    if queries.space and references.space:
        references.space.check(queries.space, flags.query_vector, flags.reference_vectors[0])
    index = Index(normalised(references.rows) if flags.normalize else references.rows, flags.metric)
    own = list(same_rows(queries, references))  # a row is not its own neighbour
    rows, scores = index.nearest(normalised(queries.rows) if flags.normalize else queries.rows,
                                 flags.top_k + max(map(len, own)))
    key = SCORES[flags.metric]
    answers: list[dict[str, Any]] = [
        {"query": name, "metric": flags.metric, "top_k": flags.top_k,
         "results": [{"name": references.names[row], key: score} for row, score in zip(ids, values, strict=True)
                     if row not in itself][:flags.top_k]}
        for name, ids, values, itself in zip(queries.names, rows.tolist(), scores.tolist(), own, strict=True)]
    for answer in answers:
        print(f"{key.replace('_', ' ')} to {answer['query']}")
        for result in answer["results"]:
            print(f"{result[key]:12.6f}  {result['name']}")
    if flags.output:
        with output_lock(flags.output, wait=True):
            write_json(flags.output, answers[0] if len(answers) == 1 else answers)
    print_next("tools/build_gallery.py", "--images-dir", PICTURES, "--gallery", "my_gallery", "--checkpoint",
               CHECKPOINT)
    return EXIT_DONE


if __name__ == "__main__":
    sys.exit(main())
