import torch

from fgvr.errors import UserError
from fgvr.models.memory import is_out_of_memory


def test_the_ways_in_which_torch_says_that_memory_ran_out():
    for error in (
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    ):
        assert is_out_of_memory(error)
    assert not is_out_of_memory(RuntimeError("size mismatch"))
    assert not is_out_of_memory(UserError("out of memory"))
