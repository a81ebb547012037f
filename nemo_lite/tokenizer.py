"""Qwen's tokenizer with the audio placeholder, and the one prompt format Canary-Qwen was trained with.

The `tokenizers` library reads `tokenizer.json` itself; the tests hold it against transformers' tokenizer. Qwen's
generation_config.json (sampling, two end tokens) is never read: NeMo does not read it either.
"""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer

from nemo_lite.errors import CheckpointError, ModelNotFoundError

DEFAULT_PROMPT = "Transcribe the following: <|audioplaceholder|>"
END_OF_TURN, PAD = "<|im_end|>", "<|endoftext|>"


class ChatTokenizer:
    def __init__(self, folder: Path, audio_tag: str) -> None:
        """Read `folder/tokenizer.json`; the placeholder gets the first id after the vocabulary, as in NeMo."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelNotFoundError(f"no tokenizer.json in {folder}: download the language model's tokenizer")
        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing more particular
            raise CheckpointError(f"{path} is damaged ({error}); delete it and download it again") from error
        self.audio_tag = audio_tag
        self.tokenizer.add_special_tokens([AddedToken(audio_tag, normalized=False, special=True)])
        self.audio_id = self._id(audio_tag)
        self.eos_id = self._id(END_OF_TURN)
        self.pad_id = self._id(PAD)

    def prompt(self, content: str) -> list[int]:
        """Ids of one user turn and the head of the answer, as two pieces; no system turn, no thinking block."""
        pieces = (f"<|im_start|>user\n{content}<|im_end|>\n", "<|im_start|>assistant\n")
        return [token for piece in pieces for token in self.encode(piece)]

    def conversation(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Ids of turns, (role, content) each, and the head of the answer. No content can end its turn."""
        turns = [f"<|im_start|>{role}\n{content.replace('<|', '< |')}<|im_end|>\n" for role, content in messages]
        return [token for piece in (*turns, "<|im_start|>assistant\n") for token in self.encode(piece)]

    def encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        """Text without special tokens. Bytes that are no UTF-8 become U+FFFD."""
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def _id(self, token: str) -> int:
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise CheckpointError(f"expected the tokenizer to know {token}: it is not Qwen's")
        return found
