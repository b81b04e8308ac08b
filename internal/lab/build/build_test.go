package build

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestKey(t *testing.T) {
	base := Recipe{Patches: []string{"a", "b"}, Dir: ".", Steps: [][]string{{"make", "x"}}, Program: "x"}
	key := base.key("1")
	if len(key) != 16 || key != base.key("1") {
		t.Errorf("keys %q and %q", key, base.key("1"))
	}
	seen := map[string]string{key: "the recipe itself"}
	for name, change := range map[string]func(*Recipe){
		"patch":            func(r *Recipe) { r.Patches = []string{"a", "c"} },
		"order":            func(r *Recipe) { r.Patches = []string{"b", "a"} },
		"joined patches":   func(r *Recipe) { r.Patches = []string{"a b"} },
		"step":             func(r *Recipe) { r.Steps = [][]string{{"make", "y"}} },
		"joined arguments": func(r *Recipe) { r.Steps = [][]string{{"make x"}} },
		"folder":           func(r *Recipe) { r.Dir = "d" },
		"program":          func(r *Recipe) { r.Program = "y" },
		"file":             func(r *Recipe) { r.Files = map[string]string{"f": "a"} },
		"file's content":   func(r *Recipe) { r.Files = map[string]string{"f": "b"} },
	} {
		r := base
		change(&r)
		k := r.key("1")
		if other := seen[k]; other != "" {
			t.Errorf("another %s has the key of %s", name, other)
		}
		seen[k] = name
	}
	if seen[base.key("2")] != "" {
		t.Error("another version has the same key")
	}
}

func TestEnviron(t *testing.T) {
	got := environ([]string{"PATH=/bin", "MAKEFLAGS= -j2 --jobserver-auth=3,4 -- CC=x", "MFLAGS=-j2", "MAKELEVEL=1", "MAKEOVERRIDES=CC=x"}, 3)
	if d := cmp.Diff([]string{"PATH=/bin", "LC_ALL=C", "MAKEFLAGS=-j3"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
