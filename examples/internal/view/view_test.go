package view

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStatus(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	raw := file("raw", make([]byte, 8192))
	text := file("text", []byte("no image at all"))
	elf := file("elf", []byte("\x7fELF, and no more"))
	rec := file("rec", []byte("PK\x03\x04, and no more"))
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{nil, 2, "one of -domain and -image"},
		{[]string{"-domain", "a", "-image", "b"}, 2, "one of -domain and -image"},
		{[]string{"-image", raw, "more"}, 2, `unexpected argument "more"`},
		{[]string{"-what"}, 2, "usage: tool"},
		{[]string{"-image", filepath.Join(dir, "none")}, 1, "none"},
		{[]string{"-image", raw}, 1, "raw memory image"},
		{[]string{"-image", raw}, 1, "memdump needs none of that"},
		{[]string{"-image", text}, 1, "whole pages"},
		{[]string{"-image", elf}, 1, "not a usable memory image"},
		{[]string{"-image", rec}, 1, "not a usable memory image"},
		{[]string{"-help"}, 0, "a dump by xl dump-core"},
	} {
		var out, msg bytes.Buffer
		tool := Tool{Name: "tool", About: "Prints.", Flags: func(f *flag.FlagSet) { f.Bool("x", false, "") },
			Run: func(*Guest) error { return errors.New("ran") }}
		if status := tool.Status(t.Context(), tt.args, &out, &msg); status != tt.status || !strings.Contains(msg.String(), tt.want) || out.Len() != 0 {
			t.Errorf("%q: status %d, message %q, output %q", tt.args, status, msg.String(), out.String())
		}
	}
}

func TestList(t *testing.T) {
	type item struct{ Name string }
	items := func(yield func(item, error) bool) {
		_ = yield(item{"one"}, nil) && yield(item{"<two>\x1b"}, nil) && yield(item{}, errors.New("no more"))
	}
	print := func(g *Guest) string {
		var b bytes.Buffer
		g.Out = &b
		if err := List(g, "NAME SIZE", items, func(i item) []any { return []any{i.Name, len(i.Name)} }); err == nil || err.Error() != "no more" {
			t.Errorf("%v", err)
		}
		return b.String()
	}
	if d := cmp.Diff("NAME    SIZE\none     3\n<two>?  6\n", print(&Guest{})); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff("{\"Name\":\"one\"}\n{\"Name\":\"<two>\\u001b\"}\n", print(&Guest{JSON: true})); d != "" {
		t.Error(d)
	}
}
