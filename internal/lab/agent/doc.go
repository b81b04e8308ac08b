// Package agent is the lab's hand in dom0: it takes jobs from the host over
// the control port (package wire), runs each in a folder of its own in RAM and
// sends back its output, files and exit status. It works on Linux only.
package agent
