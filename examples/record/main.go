// Record keeps what the other examples read of a Linux guest in a file, so that
// they work on it anywhere.
//
//	record -domain guest -record guest.rec
//	ps -image guest.rec
package main

import (
	"errors"
	"fmt"
	"iter"

	"github.com/govmi/govmi/examples/internal/view"
	"github.com/govmi/govmi/vmi"
	"github.com/govmi/govmi/vmi/linux"
)

func main() { tool().Main() }

func tool() view.Tool {
	return view.Tool{
		Name: "record", About: "Reads all that the other examples print of a Linux guest, for -record.",
		Run: func(g *view.Guest) error {
			k := g.Kernel
			_, err1 := k.Clock()
			_, err2 := k.CommandLine()
			return errors.Join(inFile(err1), inFile(err2),
				read(g, "processes", k.Processes(), ofProcess),
				read(g, "threads", k.ThreadInfos(), nil),
				read(g, "modules", k.Modules(), nil),
				read(g, "messages", k.Log(), nil),
				read(g, "sockets", k.Sockets(), nil),
				read(g, "findings", k.Check(), nil),
			)
		},
	}
}

// inFile allows that a recording which is recorded again lacks something.
func inFile(err error) error {
	if errors.Is(err, vmi.ErrNotInFile) {
		return nil
	}
	return err
}

// ofProcess reads what belongs to a process.
func ofProcess(p linux.Process) error {
	t := p.Task
	_, err1 := t.Args()
	_, err2 := t.Env()
	_, err3 := t.Exe()
	_, _, err4 := t.Dirs()
	errs := []error{err1, err2, err3, err4, all(t.Files())}
	if p.State != 'Z' {
		errs = append(errs, all(t.Mounts()))
	}
	if err := all(t.Maps()); !errors.Is(err, linux.ErrNoMM) {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func all[T any](items iter.Seq2[T, error]) error {
	for _, err := range items {
		if err != nil {
			return err
		}
	}
	return nil
}

// read reads a list and prints how long it is.
func read[T any](g *view.Guest, what string, items iter.Seq2[T, error], more func(T) error) error {
	n := 0
	for item, err := range items {
		if err == nil && more != nil {
			err = more(item)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		n++
	}
	fmt.Fprintf(g.Out, "%d %s\n", n, what)
	return nil
}
