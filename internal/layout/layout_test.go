// Package layout holds no code: its test keeps the imports of the module
// pointing downwards.
package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/govmi/govmi"

// layers lists the module's layers from the top; a package may import its own
// layer and those below it.
var layers = []string{"examples", "cr3filter", "breakpoint", "vmi", "xen", "internal"}

// unwanted are standard packages that the libraries here should not bring into
// the programs that import them. (github.com/cilium/ebpf brings some itself.)
var unwanted = []string{"testing", "flag", "encoding/xml", "net/http"}

type listed struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var pkgs []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pkgs = append(pkgs, p)
	}
	if len(pkgs) < len(layers) {
		t.Fatalf("go list names %d packages", len(pkgs))
	}
	return pkgs
}

func layer(importPath string) int {
	rest, ok := strings.CutPrefix(importPath, module+"/")
	if !ok {
		return len(layers)
	}
	top, _, _ := strings.Cut(rest, "/")
	return slices.Index(layers, top)
}

// tests reports the packages that boot and drive the test machines, and the one of
// the recorded guest. They use every layer, and only tests and programs use them.
func tests(importPath string) bool {
	return strings.HasPrefix(importPath, module+"/internal/lab") || importPath == module+"/internal/recorded"
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range list(t) {
		if tests(p.ImportPath) {
			continue
		}
		at := layer(p.ImportPath)
		if at < 0 {
			t.Errorf("%s belongs to no layer", p.ImportPath)
		}
		for _, imp := range p.Imports {
			if layer(imp) < at || tests(imp) {
				t.Errorf("%s imports %s", p.ImportPath, imp)
			}
		}
	}
}

func TestLibrariesStayLean(t *testing.T) {
	for _, p := range list(t) {
		if at := layer(p.ImportPath); at <= 0 || tests(p.ImportPath) || strings.Contains(p.ImportPath, "/internal/") {
			continue
		}
		for _, dep := range p.Imports {
			if slices.Contains(unwanted, dep) {
				t.Errorf("%s imports %s", p.ImportPath, dep)
			}
		}
	}
}
