/*
 * The yardstick for mapping a guest's memory: how long plain C takes for it on
 * Xen's own library.
 *
 *   mapframes DOMAIN FIRST FRAMES ROUNDS
 *
 * It maps FRAMES frames from FIRST on in one go, reads a byte of each and unmaps
 * them, ROUNDS times, and prints "us=N", the microseconds of all rounds.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <xenctrl.h>
#include <xenforeignmemory.h>

#define PAGE 4096

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
    xenforeignmemory_handle *fm;
    unsigned long dom, first, frames, rounds;
    xen_pfn_t *gfn;
    int64_t begin;
    int *err;

    if (argc != 5) {
        fprintf(stderr, "usage: mapframes DOMAIN FIRST FRAMES ROUNDS\n");
        return 2;
    }
    dom = strtoul(argv[1], NULL, 10);
    first = strtoul(argv[2], NULL, 0);
    frames = strtoul(argv[3], NULL, 10);
    rounds = strtoul(argv[4], NULL, 10);
    fm = xenforeignmemory_open(NULL, 0);
    gfn = calloc(frames, sizeof(*gfn));
    err = calloc(frames, sizeof(*err));
    if (!fm || !gfn || !err) {
        fprintf(stderr, "mapframes: %s\n", strerror(errno));
        return 1;
    }
    for (unsigned long i = 0; i < frames; i++)
        gfn[i] = first + i;
    begin = now();
    for (unsigned long r = 0; r < rounds; r++) {
        volatile uint8_t *mem = xenforeignmemory_map(fm, dom, PROT_READ, frames, gfn, err);

        if (!mem) {
            fprintf(stderr, "mapframes: map: %s\n", strerror(errno));
            return 1;
        }
        for (unsigned long i = 0; i < frames; i++) {
            if (err[i]) {
                fprintf(stderr, "mapframes: frame %#" PRIx64 ": %s\n", (uint64_t)gfn[i], strerror(-err[i]));
                return 1;
            }
            (void)mem[i * PAGE];
        }
        if (xenforeignmemory_unmap(fm, (void *)mem, frames)) {
            fprintf(stderr, "mapframes: unmap: %s\n", strerror(errno));
            return 1;
        }
    }
    printf("us=%" PRId64 "\n", now() - begin);
    return 0;
}
