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
ROOM = 64  # tokens of the context beyond prompt and answer; without a bound llama.cpp takes the whole of the model's


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
            said = shown(last_words(done.stderr.strip() or done.stdout))
            raise UserError(
                f"{converter} must convert the model, but it ended with {done.returncode} and said: {said}. "
                "Leave gguf out, or take a release of llama.cpp that knows this model and its tokenizer"
            )


def compared(folder: Path, questions: Sequence[Question], max_new_tokens: int) -> str:
    """Sentences on how many of llama.cpp's answers are those of the folder, or that it could not be asked.

    It is asked about the photos as they are, and where its reply is another, about the photos as the model sees them.
    """
    asker = shutil.which(ASKER)
    if asker is None:
        return f"Not compared: {ASKER} is not on the PATH."
    processor, own = Processor.from_folder(folder, None), folder_replies(folder, questions)
    given = [_reply(asker, folder, processor, question, max_new_tokens) for question in questions]
    seen = list[str]()
    for ours, theirs, (messages, photos) in zip(own, given, questions, strict=True):
        views = [processor.view(photo) for photo in photos]
        done = ours.strip() == theirs.strip() or all(a.size == b.size for a, b in zip(views, photos, strict=True))
        seen.append(theirs if done else _reply(asker, folder, processor, (messages, views), max_new_tokens))
    return (
        f"Greedy answers of llama.cpp ({ASKER}{_version(asker)}) that are this folder's: {_agree(own, given)}; of "
        f"photos that were resized before as the image processor does it: {_agree(own, seen)}."
    )


def _agree(own: Sequence[str], theirs: Sequence[str]) -> str:
    """How many of the answers are the same, of how many, and how many replies are to the letter."""
    answers = [(parse_completion(a), parse_completion(b)) for a, b in zip(own, theirs, strict=True)]
    same = sum(a is not None and b is not None and a.text == b.text for a, b in answers)
    letters = sum(a.strip() == b.strip() for a, b in zip(own, theirs, strict=True))
    return f"{same} of {len(own)} (whole replies: {letters})"


def budget(processor: Processor) -> list[str]:
    """llama.cpp's options for the pixel budget, which its converter leaves out: in tokens of an image.

    A resized image has whole tokens, so it lies within the pixels just where it lies within these.
    """
    pixels = side_of(processor) ** 2
    least, most = -(-processor.pixels.min // pixels), max(1, processor.pixels.max // pixels)
    return ["--image-min-tokens", str(least), "--image-max-tokens", str(most)]


def side_of(processor: Processor) -> int:
    """Pixels along a side of what becomes one token."""
    return int(processor.image_processor.patch_size) * processor.merge


def options(processor: Processor, folder: Path) -> list[str]:
    """llama.cpp's options for the files of a folder: its pixel budget, its chat template, and greedy answers."""
    files = ["-m", str(folder / MODEL), "--mmproj", str(folder / PROJECTOR)]
    return [*files, *budget(processor), "--jinja", "--temp", "0"]


def described(folder: Path, questions: Sequence[Question], max_new_tokens: int) -> str:
    """What the card says of the files: how their answers compare, and how they are asked."""
    processor = Processor.from_folder(folder, None)
    line = " ".join([ASKER, *options(processor, Path()), "--image PHOTO -p QUESTION"])
    return (
        f"{compared(folder, questions, max_new_tokens)}\n\n"
        "The pixel budget does not stand in them: give it with each call, to llama-server too. Resize photos first, to "
        f"sides that are multiples of {side_of(processor)} pixels: llama.cpp keeps a photo's shape and fills up with "
        "black, where this folder's image processor stretches it.\n\n"
        f"```bash\n{line}\n```"
    )


def _reply(asker: str, folder: Path, processor: Processor, question: Question, max_new_tokens: int) -> str:
    messages, photos = question
    text = "".join(part["text"] for part in messages[-1]["content"] if part["type"] == "text")
    prompt = len(processor.encode_prompt(*question).input_ids)
    room = prompt + prompt // 4 + max_new_tokens + ROOM  # padded photos have a row and a column of tokens more
    with tempfile.TemporaryDirectory() as place:
        line = [asker, *options(processor, folder)]
        for number, photo in enumerate(photos):
            photo.save(Path(place) / f"{number}.png")
            line += ["--image", str(Path(place) / f"{number}.png")]
        line += ["-p", text, "--no-escape", "-n", str(max_new_tokens), "-c", str(room)]
        for token in processor.vision_token_ids:  # which the folder never says either
            line += ["--logit-bias", f"{token}-1000"]
        done = subprocess.run(line, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise UserError(
            f"{asker} must answer from the converted model, but it ended with {done.returncode} and said: "
            f"{shown(last_words(done.stderr))}. Leave gguf out, or take another release of llama.cpp"
        )
    return processor.opening + done.stdout


def _version(asker: str) -> str:
    """What the program says of itself, after a comma; "" where it says nothing."""
    done = subprocess.run([asker, "--version"], capture_output=True, text=True, errors="replace")
    said = next((line for line in (done.stdout + done.stderr).splitlines() if line.startswith("version:")), "")
    return f", {said.removeprefix('version:').strip()}" if said else ""


def last_words(said: str) -> str:
    """The last line of what a program said."""
    return (said.strip() or "nothing").splitlines()[-1]
