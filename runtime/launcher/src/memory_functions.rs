//! Functions that compilers call implicitly and that a C library defines otherwise.
//!
//! They are written in assembly language, because a compiler would turn loops into calls of these functions.

/// Defines the functions. `$prefix` precedes their names.
macro_rules! define_memory_functions {
    ($prefix:literal) => {
        // System V ABI, x86-64: rdi, rsi and rdx are the arguments, rax is the result, and the direction flag is clear.
        core::arch::global_asm!(
            // void *memcpy(void *to, const void *from, size_t bytes)
            concat!(".globl ", $prefix, "memcpy"),
            concat!($prefix, "memcpy:"),
            "mov rax, rdi",
            "mov rcx, rdx",
            "rep movsb",
            "ret",
            // void *memmove(void *to, const void *from, size_t bytes): backwards if `to` lies in the range that is
            // read.
            concat!(".globl ", $prefix, "memmove"),
            concat!($prefix, "memmove:"),
            "mov rax, rdi",
            "mov rcx, rdx",
            "sub rdi, rsi",
            "cmp rdi, rdx",
            "lea rdi, [rax]",
            "jb 2f",
            "rep movsb",
            "ret",
            "2:",
            "lea rdi, [rdi + rdx - 1]",
            "lea rsi, [rsi + rdx - 1]",
            "std",
            "rep movsb",
            "cld",
            "ret",
            // void *memset(void *to, int byte, size_t bytes)
            concat!(".globl ", $prefix, "memset"),
            concat!($prefix, "memset:"),
            "mov r8, rdi",
            "mov eax, esi",
            "mov rcx, rdx",
            "rep stosb",
            "mov rax, r8",
            "ret",
            // int memcmp(const void *a, const void *b, size_t bytes): eight bytes at once while they are equal.
            concat!(".globl ", $prefix, "bcmp"),
            concat!($prefix, "bcmp:"),
            concat!(".globl ", $prefix, "memcmp"),
            concat!($prefix, "memcmp:"),
            "3:",
            "cmp rdx, 8",
            "jb 4f",
            "mov rax, [rdi]",
            "cmp rax, [rsi]",
            "jne 4f",
            "add rdi, 8",
            "add rsi, 8",
            "sub rdx, 8",
            "jmp 3b",
            "4:",
            "test rdx, rdx",
            "jz 5f",
            "movzx eax, byte ptr [rdi]",
            "movzx ecx, byte ptr [rsi]",
            "inc rdi",
            "inc rsi",
            "dec rdx",
            "sub eax, ecx",
            "jz 4b",
            "ret",
            "5:",
            "xor eax, eax",
            "ret",
            // size_t strlen(const char *text)
            concat!(".globl ", $prefix, "strlen"),
            concat!($prefix, "strlen:"),
            "xor eax, eax",
            "6:",
            "cmp byte ptr [rdi + rax], 0",
            "je 7f",
            "inc rax",
            "jmp 6b",
            "7:",
            "ret",
        );
    };
}
