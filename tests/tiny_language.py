"""Tiny random language models with a real tokenizer: two blocks, 64 tokens of context, seconds to train."""

import json

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SENTENCES = (
    "The ferry leaves the harbour at seven in the morning.",
    "The mill by the river grinds corn, and the miller sings.",
    "Two stone bridges lead over the river to the harbour.",
    "In the morning the ferry waits for the miller and his corn.",
    "Le garçon a mangé une crème brûlée près de la rivière.",
)
"""What the tokenizer is trained on; every other text can be encoded too, byte by byte."""

CONTEXT = 64
"""Tokens that the models can read."""

END = "<|endoftext|>"


def tiny_tokenizer():
    """A byte-level BPE tokenizer of 320 tokens, whose token 0 ends texts and pads them on the left."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        SENTENCES,
        trainers.BpeTrainer(
            vocab_size=320,
            special_tokens=[END],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        padding_side="left",
        model_max_length=CONTEXT,
        model_input_names=["input_ids", "attention_mask"],
    )


def tiny_gpt2(seed=0, **changes):
    """A GPT-2 with tied embeddings, in eval mode; `changes` are of its config."""
    settings = {
        "vocab_size": 320, "n_layer": 2, "n_embd": 32, "n_head": 2, "n_positions": CONTEXT, "initializer_range": 0.2,
        "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(**(settings | changes))).eval()


def tiny_llama(seed=0, **changes):
    """A Llama with one key-value head for two query heads and a head of its own, in eval mode."""
    settings = {
        "vocab_size": 320, "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 48,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": CONTEXT,
        "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
    }  # fmt: skip
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**(settings | changes))).eval()


MODELS = {"gpt2": tiny_gpt2, "llama": tiny_llama}


def checkpoint(folder, kind="gpt2", **changes):
    """A folder as the stage `train` leaves it: config, weights, generation config and tokenizer."""
    MODELS[kind](**changes).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"tokenizer_class": "PreTrainedTokenizerFast"}), encoding="utf-8")
    return folder
