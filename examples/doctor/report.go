package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/govmi/govmi/examples/internal/session"
	"github.com/govmi/govmi/xen"
)

// verdict is what a finding means for introspection.
type verdict string

const (
	good    verdict = "ok"
	limited verdict = "limited" // works, but could work better
	bad     verdict = "no"      // prevents introspection
)

// finding is one thing that was looked at.
type finding struct {
	Check   string  `json:"check"`
	Verdict verdict `json:"verdict"`
	Found   string  `json:"found"`
	Change  string  `json:"change,omitempty"` // what to do for more
}

type report struct {
	Host    []finding      `json:"host"`
	Domains []domainReport `json:"domains"`
}

type domainReport struct {
	ID       xen.DomID `json:"id"`
	Name     string    `json:"name"`
	Findings []finding `json:"findings"`
}

func prevents(f finding) bool { return f.Verdict == bad }

func (r *report) status() int {
	if slices.ContainsFunc(r.Host, prevents) {
		return exitHost
	}
	for _, d := range r.Domains {
		if slices.ContainsFunc(d.Findings, prevents) {
			return exitDomain
		}
	}
	return exitOK
}

// refused is a finding that prevents introspection.
func refused(check string, err error) finding { return failed(check, bad, err) }

// failed is a finding from an error, whose advice is what to change.
func failed(check string, v verdict, err error) finding {
	var e *xen.Error
	if !errors.As(err, &e) || e.Advice == "" {
		return finding{check, v, session.OneLine(err), ""}
	}
	plain := *e
	plain.Advice, plain.Domain = "", xen.NoDomID
	return finding{check, v, strings.TrimPrefix(session.OneLine(&plain), "xen: "), e.Advice}
}

func (r *report) print(w io.Writer, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "\t")
		return enc.Encode(r)
	}
	var b strings.Builder
	b.WriteString("host\n")
	table(&b, r.Host)
	for _, d := range r.Domains {
		fmt.Fprintf(&b, "domain %v (%s)\n", d.ID, session.Printable(d.Name))
		table(&b, d.Findings)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func table(b *strings.Builder, findings []finding) {
	for _, f := range findings {
		fmt.Fprintf(b, "  %-20s  %-7s  %s\n", f.Check, f.Verdict, session.Printable(f.Found))
		if f.Change != "" {
			fmt.Fprintf(b, "%33s-> %s\n", "", session.Printable(f.Change))
		}
	}
}
