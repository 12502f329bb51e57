"""Three commands for a machine that has Python 3.10 or newer and nothing else.

    python quickstart.py demo     the whole main job on generated pictures:
                                  prepare, train, classify, cluster, gallery
    python quickstart.py serve    a page in the browser with the demo's network,
                                  after the demo where there is none; further
                                  arguments go to serve_artist.py
    python quickstart.py test     lint and test suite; further arguments go to
                                  pytest

All first make .venv beside this file and install what the requirements name
and it lacks, at first about 5 GB on Linux.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

PYTHON = Path(".venv", "Scripts/python.exe" if os.name == "nt" else "bin/python")
DEMO = """tools/make_demo_dataset.py --output-dir {demo}/artists --overwrite
prepare_dataset.py --source-dir {demo}/artists --output-dir {demo}/dataset --val-ratio 0.2 --overwrite
train_artist_style.py --model lsnet_t_artist --data-path {demo}/dataset --output-dir {demo}/run --input-size 64 --epochs 30 --scale 0.6 1 --num-workers 0
inference_artist.py --mode classify --checkpoint {demo}/run/model_best.pth --input {picture} --output {demo}/one_picture
inference_artist.py --mode both --checkpoint {demo}/run/model_best.pth --input {demo}/dataset/val --output {demo}/folder --contact-sheet
tools/extract_cluster_features.py --images-dir {demo}/dataset/val --checkpoint {demo}/run/model_best.pth --num-clusters 6 --output-dir {demo}/clusters
tools/build_gallery.py --images-dir {demo}/dataset/train --checkpoint {demo}/run/model_best.pth --gallery {demo}/gallery --overwrite"""  # noqa: E501
SERVE = "serve_artist.py --checkpoint {demo}/run/model_best.pth --gallery {demo}/gallery --writable --open"
END = """
Validation accuracy: {top1:.1f} %. Look first at {demo}/folder/contact_sheet.png. In {demo} are artists (the pictures), dataset
(train, val), run (the network and its logs), one_picture and folder (predictions, features), clusters and gallery.
Next, in the browser, then with your own pictures, one folder per artist:
> {python} quickstart.py serve
> {python} prepare_dataset.py --source-dir my_pictures --output-dir my_dataset
> {python} train_artist_style.py --model lsnet_t_artist --data-path my_dataset --output-dir my_run
> {python} inference_artist.py --mode both --checkpoint my_run/model_best.pth --input more_pictures --output my_results"""  # noqa: E501


def build_parser():
    """Make the parser of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, task in (("demo", "run the main job on generated pictures"),
                       ("serve", "open a page with its network; further arguments go to serve_artist.py")):
        commands.add_parser(name, help=task).add_argument(
            "--output-dir", type=os.path.abspath, help="folder of the demo (default: demo, beside this file)")
    commands.add_parser("test", help="run ruff, pyrefly and pytest; further arguments, such as -k name, go to pytest")
    return parser


def main(argv=None):
    """Make .venv complete, then run one of the three commands; 0, or an exit with one line."""
    if sys.version_info < (3, 10):  # noqa: UP036 (the file parses on Python 3.6, to be able to say so)
        sys.exit(f"quickstart.py: found Python {sys.version.split()[0]}; expected 3.10 or newer; install and use it")
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    os.chdir(Path(__file__).resolve().parent)
    if arguments.command == "test":
        install("requirements-dev.txt")
        call(PYTHON, "-m", "ruff", "check", ".", failure="ruff found what it lists above")
        call(PYTHON, "-m", "pyrefly", "check", failure="pyrefly found what it lists above")
        call(PYTHON, "-m", "pytest", "-q", "-n2", "--dist=loadfile", *rest, failure="pytest did not pass, see above")
    elif arguments.command == "serve":
        install("requirements-serve.txt")
        serve(arguments.output_dir or "demo", rest)
    elif rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    else:
        install("requirements.txt")
        run_demo(arguments.output_dir or "demo")
    return 0


def call(*words, failure):
    """Run a command; where it fails, end with one line. Passive: waiting threads leave their core to other programs."""
    if subprocess.run(words, check=False, env={"OMP_WAIT_POLICY": "passive", **os.environ}).returncode:
        sys.exit(f"quickstart.py: {failure}")


def install(requirements):
    """Bring .venv to `requirements`. Always asks pip: in two seconds, off line, it sees that nothing is lacking."""
    if not PYTHON.exists() or subprocess.run([PYTHON, "-c", "import pip"], stderr=subprocess.DEVNULL).returncode:
        call(sys.executable, "-m", "venv", ".venv", failure="could not make .venv; expected a Python with venv, on "
             "Debian and Ubuntu: sudo apt install python3-venv; install it, remove .venv and call this again")
    complete = Path(".venv", "complete")  # until then pip shows what it downloads
    call(PYTHON, "-m", "pip", "install", *(["--quiet"] if complete.exists() else []), "-r", requirements,
         failure="pip could not install everything, see above; check network and disk, and call this again to go on")
    complete.touch()


def run_demo(demo):
    """Run the commands of DEMO as a user would type them, then tell what came out."""
    for command in DEMO.splitlines():
        picture = next(iter(sorted(Path(demo, "dataset/val").glob("*/*"))), "")
        words = [word.format(demo=demo, picture=picture) for word in command.split()]
        print("\n>", subprocess.list2cmdline([PYTHON, *words]), flush=True)
        call(PYTHON, *words, failure=f"{words[0]} failed, see above")
    records = map(json.loads, Path(demo, "run/metrics.jsonl").read_text().splitlines())
    print(END.format(top1=max(record.get("val_top1", 0) for record in records), demo=demo, python=PYTHON))


def serve(demo, rest):
    """Open the page with the network of the demo, which is made where it is not there; until Ctrl-C."""
    if not Path(demo, "gallery", "gallery.json").is_file():
        run_demo(demo)
    words = [word.format(demo=demo) for word in SERVE.split()]
    try:
        call(PYTHON, *words, *rest, failure="serve_artist.py ended, see above")
    except KeyboardInterrupt:  # it has ended by the same Ctrl-C
        sys.exit(130)


if __name__ == "__main__":
    sys.exit(main())
