//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "agent: runs in the lab's dom0 on Linux only")
	os.Exit(1)
}
