# What the demo's bash does while it is traced. It waits at two pipes, where
# the guest is asked how far the bash has come.
echo "demo: ready"
read -r go </tmp/demo.begin
children=0
for name in one two three; do
	echo "the file $name" >"/tmp/$name"
	read -r back <"/tmp/$name"
	(read -r host </etc/hostname)
	busybox wc -c "/tmp/$name" >/dev/null
	children=$((children + 2))
done
read -r nothing </tmp/missing
echo "demo: children=$children"
read -r go </tmp/demo.end
exec busybox sh -c 'echo "demo: goodbye"; exit 7'
