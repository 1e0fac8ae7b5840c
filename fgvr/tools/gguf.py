"""An exported folder for llama.cpp: converted by its own converter, and asked the same questions where that can be."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fgvr.data.tasks import parse_completion
from fgvr.errors import UserError, shown
from fgvr.models import Processor
from fgvr.models.saved import Question, folder_replies

CONVERTERS = ("convert_hf_to_gguf.py", "convert_hf_to_gguf", "convert-hf-to-gguf")
ASKER = "llama-mtmd-cli"
TYPES = {"float32": "f32", "bfloat16": "bf16"}
MODEL, PROJECTOR = "model.gguf", "mmproj.gguf"


def find_converter() -> str:
    """Where llama.cpp's converter is. Raises UserError where none is on the PATH."""
    found = next(filter(None, map(shutil.which, CONVERTERS)), None)
    if found is None:
        raise UserError(
            f"gguf needs llama.cpp's converter, but none of {', '.join(CONVERTERS)} is on the PATH: get llama.cpp, "
            "install its requirements and put its folder on the PATH, or leave gguf out"
        )
    return found


def convert(folder: Path, converter: str, dtype: str) -> None:
    """Writes the language model as model.gguf and the vision tower as mmproj.gguf into the folder of a merged model.

    Raises UserError, with the converter's last words, when it refuses the model.
    """
    for name, more in ((MODEL, []), (PROJECTOR, ["--mmproj"])):
        line = [converter, str(folder), "--outfile", str(folder / name), "--outtype", TYPES[dtype], *more]
        done = subprocess.run(line, capture_output=True, text=True, errors="replace")
        if done.returncode or not (folder / name).is_file():
            said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
            raise UserError(
                f"{converter} must convert the model, but it ended with {done.returncode} and said: {shown(said)}. "
                "Leave gguf out, or take a release of llama.cpp that knows this model and its tokenizer"
            )


def compared(folder: Path, questions: Sequence[Question], max_new_tokens: int) -> str:
    """A sentence on how many of llama.cpp's answers are those of the folder, or that it could not be asked."""
    asker = shutil.which(ASKER)
    if asker is None:
        return f"Not compared: {ASKER} is not on the PATH."
    own = [parse_completion(reply) for reply in folder_replies(folder, questions)]
    opening = Processor.from_folder(folder, None).opening
    theirs = [parse_completion(opening + _reply(asker, folder, question, max_new_tokens)) for question in questions]
    same = sum(a is not None and b is not None and a.text == b.text for a, b in zip(own, theirs, strict=True))
    return f"{same} of {len(own)} answers of llama.cpp ({ASKER}, greedy) are those of this folder."


def _reply(asker: str, folder: Path, question: Question, max_new_tokens: int) -> str:
    messages, photos = question
    text = "".join(part["text"] for part in messages[-1]["content"] if part["type"] == "text")
    with tempfile.TemporaryDirectory() as place:
        picture = Path(place) / "photo.png"
        photos[0].save(picture)
        line = [asker, "-m", str(folder / MODEL), "--mmproj", str(folder / PROJECTOR), "--image", str(picture)]
        line += ["-p", text, "--temp", "0", "-n", str(max_new_tokens), "--jinja"]
        done = subprocess.run(line, capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise UserError(
            f"{asker} must answer from the converted model, but it ended with {done.returncode} and said: "
            f"{shown(said)}. Leave gguf out, or take another release of llama.cpp"
        )
    return done.stdout
