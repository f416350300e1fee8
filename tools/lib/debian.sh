# shellcheck shell=bash
# debian.sh - packages from this machine's own Debian mirror, unpacked anywhere (to be sourced)
#
#   debian_fetch trixie DIR criu        the .deb files of criu and all it depends on
#   debian_unpack DIR ROOT              their content as a tree
#
# The machine's dpkg and apt state are not touched: a private apt state with an
# empty dpkg status makes apt resolve the whole closure of dependencies. Mirror
# and proxy are those that apt uses already; signatures are checked against the
# archive keyring.

debian_keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# Prints the name of this machine's release (bookworm, trixie, ...), or nothing
# when it is not Debian.
debian_codename() {
	# shellcheck disable=SC1091 # not ours
	(. /etc/os-release && [[ $ID == debian ]] && printf '%s\n' "${VERSION_CODENAME-}")
}

# Prints the address of the mirror that serves this machine's release.
debian_mirror() {
	local codename try
	codename=$(debian_codename)
	for try in 1 2; do
		# apt knows a source's origin only once its lists are there.
		# shellcheck disable=SC2016 # apt's variable
		apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
			"Codename: $codename" 'Component: main' | grep -m1 . && return 0
		((try == 2)) || apt-get -q update >/dev/null 2>&1 || true
	done
	echo "apt has no source of Debian $codename (see sources.list(5))" >&2
	return 1
}

# debian_fetch SUITE DIR PACKAGE...: downloads into DIR/cache/archives.
debian_fetch() {
	local suite=$1 dir=$2 mirror
	shift 2
	mirror=$(debian_mirror) || return 1
	[[ -r $debian_keyring ]] || {
		echo "$debian_keyring is missing: apt-get install debian-archive-keyring" >&2
		return 1
	}
	mkdir -p "$dir"/{state/lists/partial,cache/archives/partial} || return 1
	: >"$dir/status"
	echo "deb [signed-by=$debian_keyring] $mirror $suite main" >"$dir/sources.list"
	local options=(-q -y -o "Dir::State=$dir/state" -o "Dir::State::lists=$dir/state/lists"
		-o "Dir::State::status=$dir/status" -o "Dir::Cache=$dir/cache"
		-o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
		-o APT::Default-Release= -o APT::Sandbox::User=root -o Debug::NoLocking=1)
	apt-get "${options[@]}" update || return 1
	apt-get "${options[@]}" install --download-only --no-install-recommends "$@"
}

# debian_unpack DIR ROOT: what debian_fetch put into DIR. No maintainer script
# runs. Links from /bin to usr/bin and the like stay, which dpkg-deb --extract
# would replace with folders.
debian_unpack() {
	local dir=$1 root=$2 deb
	for deb in "$dir"/cache/archives/*.deb; do
		dpkg-deb --fsys-tarfile "$deb" |
			tar --extract --preserve-permissions --keep-directory-symlink --directory "$root" || return 1
	done
}
