package main

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/govmi/govmi/internal/lab/table1"
)

func TestMethodsAreRows(t *testing.T) {
	var rows []string
	for _, m := range table1.Methods {
		rows = append(rows, m.Name)
	}
	last := -1
	for _, m := range methods {
		i := slices.Index(rows, m.name)
		if i <= last {
			t.Errorf("method %s is not a row, or not in the table's order", m.name)
		}
		last = i
	}
}

func TestChoose(t *testing.T) {
	for list, want := range map[string]int{"": len(methods), "none": 0, "1": 1, "2,1": 2} {
		got, err := choose(list)
		if err != nil || len(got) != want {
			t.Errorf("%q: %d methods, %v; want %d", list, len(got), err, want)
		}
		if want == 2 && got[0].name != table1.Unmonitored {
			t.Errorf("%q: not in the table's order", list)
		}
	}
	for _, list := range []string{"7", "1,", "1,1"} {
		if got, err := choose(list); err == nil {
			t.Errorf("%q: %d methods, want an error", list, len(got))
		}
	}
}

func TestLastLine(t *testing.T) {
	m := result.FindStringSubmatch("build: start=1764065999.999000 end=1764066001.001000 objects=12 writes=1009 reads=1008\n")
	if m == nil {
		t.Fatal("no match")
	}
	var got table1.Run
	if err := took(m, &got); err != nil {
		t.Fatal(err)
	}
	want := table1.Run{Micros: 1_002_000, Objects: 12, Own: table1.IO{Reads: 1008, Writes: 1009}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
