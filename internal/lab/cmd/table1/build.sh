# What the traced bash does: it unpacks a library's source, compiles its files
# one by one, and after each makes calls of its own: a write to descriptor 1
# and a read from descriptor 9, counted by itself. files and rounds are set
# before this. It waits at two pipes, where the guest is asked how far the bash
# has come, and its last line is one more write.
exec 3>&1 >/tmp/own.out 9</tmp/own.in
writes=0 reads=0 objects=0
cd /tmp/build
read -r go </tmp/build.begin
start=$EPOCHREALTIME
tar -xzf /usr/src/jansson.tar.gz
src=(jansson-*/src)
for f in $files; do
	if gcc -O2 -c -DHAVE_CONFIG_H -I/usr/src/jansson -I"$src" -o "$f.o" "$src/$f.c"; then
		((objects += 1))
	fi
	for ((i = 0; i < rounds; i++)); do
		printf x && ((writes += 1))
		read -r -N 1 -u 9 c && ((reads += 1))
	done
done
end=$EPOCHREALTIME
exec >&3
((writes += 1))
echo "build: start=$start end=$end objects=$objects writes=$writes reads=$reads"
read -r go </tmp/build.end
