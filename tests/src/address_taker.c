/* Maps a page at each address that archives request, so that archives have to be relocated. */
#include <sys/mman.h>

__attribute__((constructor)) static void take(void)
{
    char *bases[] = {(char *)0x280000000000, (char *)0x281000000000};
    for (int i = 0; i < 2; i++) {
        mmap(bases[i], 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    }
}
