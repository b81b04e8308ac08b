//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "workload: runs in the lab's guests on Linux only")
	os.Exit(1)
}
