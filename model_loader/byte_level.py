"""The alphabet of byte-level tokenizers: one printable character for each of the 256 bytes.

Source: GPT-2's encoder (openai/gpt-2, encoder.py): printable Latin-1 bytes stand for themselves, the others, in order,
for the characters from U+0100 on.
"""

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]

CHARACTER_OF_BYTE = {byte: chr(byte) for byte in _PRINTABLE} | {byte: chr(0x100 + n) for n, byte in enumerate(_OTHERS)}
BYTE_OF_CHARACTER = {character: byte for byte, character in CHARACTER_OF_BYTE.items()}
