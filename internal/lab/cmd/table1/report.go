package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/govmi/govmi/internal/lab/table1"
)

// report reads raw data and writes the report's three forms. It fails if data
// are missing, and after writing if they do not show what they must.
func report(args []string) error {
	fs := flag.NewFlagSet("report", flag.ContinueOnError)
	out := fs.String("out", ".", "`folder` for report.md, report.json and overhead.svg")
	list := fs.String("methods", "", "comma-separated `names` of the rows; empty for all")
	runs := fs.Int("runs", 0, "`number` of runs that each method must have (default 3)")
	exit := fs.Int("exit", table1.DefaultExitInstructions, "`instructions` that an exit is taken to cost in the second estimate")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() == 0 {
		return errors.New("table1 report: no raw data")
	}
	var records []table1.Record
	for _, name := range fs.Args() {
		more, err := read(name)
		if err != nil {
			return err
		}
		records = append(records, more...)
	}
	o := &table1.Options{Runs: *runs, ExitInstructions: *exit}
	if *list != "" {
		o.Methods = strings.Split(*list, ",")
	}
	r, err := table1.NewReport(records, o)
	if err != nil {
		return err
	}
	for name, write := range map[string]func(io.Writer) error{
		"report.md": r.WriteMarkdown, "report.json": r.WriteJSON, "overhead.svg": r.WriteSVG,
	} {
		if err := create(filepath.Join(*out, name), write); err != nil {
			return err
		}
	}
	return r.Check()
}

func read(name string) ([]table1.Record, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	records, err := table1.Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return records, nil
}

func create(name string, write func(io.Writer) error) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return write(f)
}
