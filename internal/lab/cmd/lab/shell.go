package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/govmi/govmi/internal/lab"
)

// shell gives a person dom0.
func shell(ctx context.Context, args []string) (status int, err error) {
	fs := flag.NewFlagSet("lab shell", flag.ContinueOnError)
	var b bootFlags
	b.register(fs)
	if err := fs.Parse(args); err != nil {
		return 2, err
	}
	term, err := openTerminal(os.Stdin)
	if err != nil {
		return 2, fmt.Errorf("a shell needs a terminal (%w); see lab run for programs", err)
	}
	s, err := b.start(ctx)
	if err != nil {
		return exitFailed, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	fmt.Fprintln(os.Stderr, "lab: this is dom0; xl, the examples and the guests' kit in /lab are at hand; exit ends the lab")
	rows, cols := term.size()
	control := make(chan lab.Control, 1)
	restore, err := term.raw(control)
	if err != nil {
		return exitFailed, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	res, err := s.Run(ctx, &lab.Job{
		Argv: []string{"bash", "-l"}, TTY: true, Rows: rows, Cols: cols, Stdin: os.Stdin, Stdout: os.Stdout, Control: control,
		AllowGuestPanic: true, Idle: 24 * 3600e9,
	})
	if err != nil {
		return exitFailed, err
	}
	return res.Exit, nil
}
