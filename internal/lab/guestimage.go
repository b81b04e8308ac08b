package lab

import (
	"context"
	"fmt"

	"github.com/govmi/govmi/internal/lab/debian"
	"github.com/govmi/govmi/internal/lab/guest"
	"github.com/govmi/govmi/internal/lab/image"
	"github.com/govmi/govmi/internal/lab/kit"
)

// guestImage says what an image holds beyond the standard one.
func guestImage(ctx context.Context, cacheDir, name string, standard kit.InitrdConfig) (*kit.InitrdConfig, error) {
	if name != guest.ImageCompiler {
		return nil, fmt.Errorf("lab: no guest image %q; there is %q", name, guest.ImageCompiler)
	}
	tools, err := debian.Fetch(ctx, cacheDir, "bookworm", kit.CompilerPackages()...)
	if err != nil {
		return nil, err
	}
	source, err := debian.Source(ctx, cacheDir, "bookworm", "jansson", "", ".orig.tar.gz")
	if err != nil {
		return nil, err
	}
	tarball, err := source.File(".orig.tar.gz")
	if err != nil {
		return nil, err
	}
	standard.Tree = append(image.Tree(tools.Dirs()), standard.Tree...)
	standard.Compiler = &kit.Compiler{Jansson: tarball}
	return &standard, nil
}
