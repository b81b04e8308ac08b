// Package linux reads a Linux guest's kernel from outside, from nothing but
// the guest's memory and registers, live, from a recording or a core dump: the
// kernel is found through the system call entry point (MSR LSTAR) and the page
// tables, or in a dump the page tables alone, its symbols come from its
// own kallsyms, its types from its own BTF, its system calls from its own
// tracing metadata. No System.map, profile or debug package is needed, and
// KASLR and KPTI make no difference.
//
// Supported are x86-64 kernels from 5.10 on that are built with
// CONFIG_KALLSYMS_ALL and CONFIG_DEBUG_INFO_BTF, as the large distributions
// build theirs.
//
// The guest may run while it is read, so lists may change under the reader:
// a walk is bounded and ends with an error, never in a loop. Everything read
// is taken as hostile input. Structure members are found by name when they are
// first needed; a kernel that lacks one is told with [ErrNoField], and serves for
// everything else.
//
// Pause the guest for lists that are to fit together.
package linux
