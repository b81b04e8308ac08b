// Package strace writes Linux system calls of an x86-64 guest in the form
// that strace gives them on the machine itself:
//
//	openat(AT_FDCWD, "/etc/hostname", O_RDONLY) = 3
//
// A [Decoder] turns raw registers and user memory into text: [Decoder.Entry]
// when a call begins, which captures what the kernel may change (strings,
// structures passed in), and [Decoder.Exit] when it returns, which adds what
// the kernel filled in. A [Printer] makes lines of the text, with strace's
// "<unfinished ...>" and "<... resumed>" where the calls of several threads
// interleave, and keeps the counts for strace's summary table.
//
// All numbers are those of the linux/amd64 ABI, whatever platform the program
// runs on. The form follows strace 6.1 with its default options.
//
// Everything that is read from the traced process is hostile: the bytes read
// and the text written for one call are bounded, and no input panics.
package strace
