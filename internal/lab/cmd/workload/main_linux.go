// Command workload runs inside the lab's guests. It does things that a monitor
// can count, by raw system calls on locked threads so that the Go runtime adds
// none of the counted kind, and prints what it did: the tests' oracle.
package main

import (
	"fmt"
	"os"
)

type command struct {
	name, help string
	run        func(args []string) error
}

func commands() []command {
	return []command{
		{"calls", "make exactly -n system calls of one kind", calls},
		{"rounds", "make -n system calls of one kind each time that it is told to, and print how long they took", rounds},
		{"busy", "make other system calls and burn CPU until SIGTERM, then print the counts", busy},
		{"cr3switch", "two processes hand a byte to each other over pipes", cr3switch},
		{"int3", "run a process into a breakpoint that a debugger in the guest has set", int3},
		{"cpuid", "execute CPUID -n times", runCPUID},
		{"request", "ask the monitor for attention -n times, past the kernel", request},
		{"singlestep", "have a debugged process execute -n instructions", singleStep},
		{"stubs", "call functions of its own on 16 pages, and check what they return and their code", stubs},
		{"mapped", "call a function of a library that it maps, in each of the ways that a process can have it", mapped},
		{"physread", "read physical memory where there should be none", physRead},
		{"sidt", "read the register of the interrupt table -n times", runSIDT},
		{"msr", "have the kernel write an MSR -n times", toggleCPUID},
		{"memory", "write and read one number in a page of memory that stays where it is", memory},
		{"pty", "type into a shell on a terminal of its own, and print digests of what went over it", pty},
		{"kallsyms", "print the kernel's symbols, hashed or compressed", kallsyms},
		{"textsum", "print a digest of the kernel's text, read from /proc/kcore", textsum},
		{"proc", "print /proc and the kernel's log, and wait while a monitor reads the same", proc},
		{"ps", "print pid, parent, thread count and comm of all processes", ps},
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name == args[0] {
				return c.run(args[1:])
			}
		}
	}
	for _, c := range commands() {
		fmt.Fprintf(os.Stderr, "  workload %-10s %s\n", c.name, c.help)
	}
	return fmt.Errorf("no such command: %q", args)
}
