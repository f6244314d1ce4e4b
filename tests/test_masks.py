"""Which words are hidden, and what stands in their place."""

import numpy as np
import pytest
import tiny_chinese
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tledge.inputs.masked_text import masking_of
from tledge.masks import IGNORED, Masking

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def pieces():
    """A WordPiece tokenizer of letters: `abc` is `a`, `##b`, `##c`."""
    words = ["[PAD]", "[CLS]", "[SEP]", "[MASK]", "[UNK]", *LETTERS, *(f"##{each}" for each in LETTERS)]
    tokenizer = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[MASK]"])
    return tokenizer


def block(masking, tokenizer, text):
    return masking.framed(np.array([tokenizer.encode(text, add_special_tokens=False).ids]))


def words_of(tokenizer, ids):
    """Lists of places, one a word."""
    found = []
    for place, token in enumerate(tokenizer.id_to_token(int(each)) for each in ids):
        if token.startswith("##"):
            found[-1].append(place)
        elif not token.startswith("["):
            found.append([place])
    return found


@pytest.fixture(scope="module")
def tokenizer():
    return pieces()


@pytest.fixture(scope="module")
def masking(tokenizer):
    return masking_of(tokenizer, "[MASK]")


TEXT = "the ferry leaves the harbour at seven in the morning and is back at noon with all of its guests on board"


def test_a_block_has_its_special_tokens_around_it(masking, tokenizer):
    assert masking.framed(np.array([[5, 6], [7, 8]], np.int32)).tolist() == [[1, 5, 6, 2], [1, 7, 8, 2]]
    assert (masking.mask, masking.before, masking.after) == (3, (1,), (2,))


def test_words_of_one_token_fill_up_what_long_ones_leave(masking, tokenizer):
    ids = block(masking, tokenizer, f"{TEXT} a b c d")
    for seed in range(20):
        assert (masking.for_training(ids, seed)[1] != IGNORED).sum() == masking.n_asked(ids)[0]


@pytest.mark.parametrize("seed", range(6))
def test_whole_words_are_asked_for_and_fifteen_percent_of_the_tokens(masking, tokenizer, seed):
    ids = block(masking, tokenizer, TEXT)
    shown, wanted = masking.for_training(ids, seed)
    asked = wanted[0] != IGNORED
    most = masking.n_asked(ids)[0]
    assert most == round(0.15 * (ids.size - 2))
    assert most - 1 <= asked.sum() <= most, "no word here has one token"
    assert not asked[[0, -1]].any()
    assert (wanted[0][asked] == ids[0][asked]).all()
    assert (shown[0][~asked] == ids[0][~asked]).all()
    parts = [asked[word] for word in words_of(tokenizer, ids[0])]
    assert all(part.all() or not part.any() for part in parts)


def test_what_is_asked_for_follows_from_the_seed(masking, tokenizer):
    ids = np.repeat(block(masking, tokenizer, TEXT), 3, axis=0)
    first, again, other = (masking.for_training(ids, seed) for seed in (1, 1, 2))
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])
    assert not np.array_equal(first[1][0], first[1][1])


def test_of_the_tokens_asked_for_eight_in_ten_are_masks_and_one_another_token(masking, tokenizer):
    ids = np.repeat(block(masking, tokenizer, TEXT), 600, axis=0)
    shown, wanted = masking.for_training(ids, 0)
    asked = wanted != IGNORED
    masks = (shown == masking.mask)[asked].mean()
    same = (shown == ids)[asked].mean()
    assert masks == pytest.approx(0.8, abs=0.02)
    assert same == pytest.approx(0.1, abs=0.02)
    others = shown[asked & (shown != ids) & (shown != masking.mask)]
    assert not masking.special[others].any()
    assert len(np.unique(others)) > 40


def test_fixed_masks_follow_from_a_text_alone_and_hide_all_that_is_asked_for(masking, tokenizer):
    ids = np.concatenate([block(masking, tokenizer, TEXT), block(masking, tokenizer, TEXT[::-1])], axis=0)
    shown, wanted = masking.fixed(ids)
    alone = masking.fixed(ids[1:])
    assert np.array_equal(shown[1:], alone[0])
    assert np.array_equal(wanted[1:], alone[1])
    assert ((shown == masking.mask) == (wanted != IGNORED)).all()


def test_special_tokens_within_a_block_are_never_asked_for(masking):
    ids = np.array([[1, 5, 2, 6, 2, 2, 7, 3, 2]])
    for seed in range(20):
        _, wanted = masking.for_training(ids, seed)
        assert set(np.flatnonzero(wanted[0] != IGNORED)) <= {1, 3, 6}
        assert (wanted != IGNORED).sum() == 1


def test_words_that_are_all_too_long_are_hidden_token_by_token(masking, tokenizer):
    ids = block(masking, tokenizer, "abcdefghijklmnopqrst")
    _, wanted = masking.for_training(ids, 3)
    assert (wanted != IGNORED).sum() == 3


def test_a_block_of_special_tokens_asks_for_nothing(masking):
    ids = np.array([[1, 2, 2, 2]])
    assert (masking.for_training(ids, 0)[1] == IGNORED).all()
    assert masking.n_asked(ids).tolist() == [0]


def test_each_chinese_character_is_a_word(tmp_path):
    tokenizer = tiny_chinese.save_tokenizer(tmp_path).backend_tokenizer
    masking = masking_of(tokenizer, "[MASK]")
    names = tiny_chinese.vocabulary()
    assert not masking.goes_on[[names.index(each) for each in tiny_chinese.SENTENCE]].any()
    assert masking.goes_on[names.index("##p")]


@pytest.mark.parametrize("space", ["\u0120", "\u2581"])
def test_words_of_vocabularies_that_write_the_space_before_them(space):
    tokens = ["<s>", "</s>", "<mask>", "<unk>", f"{space}the", f"{space}ha", "rb", "our", ",", f"{space}", "火", "站"]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    tokenizer.add_special_tokens(["<s>", "</s>", "<mask>", "<unk>"])
    masking = masking_of(tokenizer, "<mask>")
    assert isinstance(masking, Masking)
    assert [tokens[i] for i in np.flatnonzero(masking.goes_on)] == ["rb", "our"]
    assert [tokens[i] for i in np.flatnonzero(masking.special)] == ["<s>", "</s>", "<mask>", "<unk>"]
