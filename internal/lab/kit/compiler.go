package kit

import (
	"embed"
	"fmt"
	"path"

	"github.com/govmi/govmi/internal/lab/image"
)

// Compiler is what an image needs for gcc -c of the library jansson. The
// image's tree holds [CompilerPackages].
type Compiler struct {
	// Jansson is the library's source as its authors packed it, .tar.gz.
	Jansson string
}

// CompilerPackages lists the packages of Debian 12 that a [Compiler] comes
// from; those with a plus sign bring their libraries.
func CompilerPackages() []string {
	return []string{
		"gcc-12", "cpp-12+", "binutils-x86-64-linux-gnu+", "libgcc-12-dev",
		"libc6-dev", "linux-libc-dev",
	}
}

// Where the compiler's image has what there is to compile.
const (
	JanssonTarball = "/usr/src/jansson.tar.gz"
	JanssonConfig  = "/usr/src/jansson"
)

const gccDir = "/usr/lib/gcc/x86_64-linux-gnu/12"

// headers are the C library's and the compiler's, without those for kernel
// interfaces and vector instructions: the image stays in the guest's memory.
var headers = []string{
	"/usr/include/*.h",
	"/usr/include/x86_64-linux-gnu/bits/*.h",
	"/usr/include/x86_64-linux-gnu/bits/types/*.h",
	"/usr/include/x86_64-linux-gnu/gnu/*.h",
	"/usr/include/x86_64-linux-gnu/sys/*.h",
	"/usr/include/x86_64-linux-gnu/asm/*.h",
	"/usr/include/asm-generic/*.h",
	"/usr/include/linux/errno.h",
	"/usr/include/linux/limits.h",
	"/usr/include/linux/param.h",
	"/usr/include/linux/close_range.h",
	gccDir + "/include/std*.h",
	gccDir + "/include/*limits.h",
}

// config is what jansson's configure would write on this platform.
//
//go:embed jansson_config.h jansson_private_config.h
var config embed.FS

func (c *Compiler) add(b *image.Builder) error {
	for _, program := range []string{
		"/usr/bin/x86_64-linux-gnu-gcc-12", gccDir + "/cc1", "/usr/bin/x86_64-linux-gnu-as",
	} {
		if err := b.Program(program); err != nil {
			return err
		}
	}
	b.Link("/usr/bin/gcc", "x86_64-linux-gnu-gcc-12")
	b.Link("/usr/bin/as", "x86_64-linux-gnu-as")
	for _, pattern := range headers {
		n, err := b.CopyAll(pattern, 0o644)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: %s", image.ErrNotFound, pattern)
		}
	}
	for _, name := range []string{"jansson_config.h", "jansson_private_config.h"} {
		data, err := config.ReadFile(name)
		if err != nil {
			return fmt.Errorf("kit: %w", err)
		}
		b.File(path.Join(JanssonConfig, name), 0o644, data)
	}
	return b.HostFile(JanssonTarball, 0o644, c.Jansson)
}
