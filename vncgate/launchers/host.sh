# What a host is asked to do for a desktop: sent to its sh on standard input, followed by a call of one of these. It needs
# Linux, a POSIX shell and GNU's tools. `root` is the folder of the desktops' folders, relative to the user's home.
#
# The answer begins after a line `vncgate`: what a login prints by itself comes before it.

export LC_ALL=C PATH="${PATH:+$PATH:}/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
umask 077
cd / || exit
case $root in /*) ;; *) root=${HOME%/}/$root ;; esac
read -r boot </proc/sys/kernel/random/boot_id
echo vncgate
exec 2>/dev/null # what is worth knowing is a part of the answer
# Their user may have closed the folder, and put a file without end in the place of one of ours that is read to its end.
[ -w "$root" ] && [ -x "$root" ] || chmod u+rwx -- "$root"
find -L "$root" -mindepth 2 -maxdepth 2 -type f -size +8k \( -name process -o -name report -o -name status \) \
  -exec rm -f -- {} +

fail() {
  printf 'failed %s\n' "$(printf %s "$*" | tr '\n' ' ')"
  exit 0
}

home() {
  printf '%s\n' "${HOME%/}"
}

# Make the folder of desktop $1 with its password file (printf's escapes, $2) and script $3, and run the commands $4 in a
# session of their own. Ends when the folder says which process that is: its number, when it began, and in which boot.
# $5 says why it may not be done as root; empty: it may.
submit() {
  [ -z "$5" ] || [ "$(id -u)" -ne 0 ] || fail "$5"
  [ ! -e "$root/$1" ] || fail "$root/$1 is there already"
  said=$({
    mkdir -p -- "$root" && mkdir -- "$root/$1" && cd -- "$root/$1" && : >log &&
      printf "$2" | cat >passwd && printf %s "$3" | cat >desktop.sh # cat says why it cannot write, dash does not
  } 2>&1) || { rm -rf -- "$root/$1" && fail "$said"; }
  cd -- "$root/$1" || fail "$root/$1 was removed"
  setsid sh -c '
    began() { set -- ${stat##*) }; echo "${20}"; }
    read -r stat </proc/$$/stat && read -r boot </proc/sys/kernel/random/boot_id &&
      echo "$$ $(began) $boot" | cat >process.new && mv process.new process || exit
    '"$4" </dev/null >>log 2>&1 &
  until [ -e process ]; do
    kill -0 $! 2>/dev/null || [ -e process ] || { said=$(tail -n 1 log) && rm -rf -- "$root/$1" && fail "$said"; }
    sleep 0.05
  done
  echo started
}

# Whether the desktop in this folder is alive; sets `pid`. Another process may have its number by now.
alive() {
  [ -f process ] && read -r pid began booted <process && [ "$booted" = "$boot" ] || return
  read -r stat <"/proc/$pid/stat" || return
  set -- ${stat##*) } # proc(5): from the third field on
  is_left "$@" && [ "${20}" = "$began" ]
}

# Whether a process with these fields lives. Where another thread than its first calls execve(2), as Go's programs do, the
# first one is a zombie for a moment.
is_left() {
  [ "$1" != Z ] || [ "${18}" -gt 1 ]
}

# Whether $1 is the folder in /tmp of desktop $2.
is_of() {
  [ -O "$1" ] && [ ! -L "$1" ] && [ -f "$1/desktop" ] && [ "$(head -c 64 "$1/desktop")" = "$2" ]
}

# The processes of desktop $1: those that have its mark, or the lock of its folder in /tmp (which goes on to all that it
# starts, in whatever environment), and all in the session of process $2, where one is named.
processes() {
  grep -lszxF "VNCGATE_DESKTOP=$1" /proc/[0-9]*/environ | tr -dc '0-9\n'
  for temporary in /tmp/vncgate-*; do
    is_of "$temporary" "$1" && find /proc/[0-9]*/fd -maxdepth 1 -lname "$temporary/desktop" | cut -d / -f 3
  done
  [ -n "$2" ] || return
  leader=$2
  for file in /proc/[0-9]*/stat; do
    read -r stat <"$file" || continue
    set -- ${stat##*) }
    [ "$4" = "$leader" ] && is_left "$@" && echo "$file" | tr -dc '0-9\n'
  done
}

# How each of the desktops is: a line each.
look() {
  for nonce; do
    if ! cd -- "$root/$nonce"; then
      # Its folder may be on a share that is not there now.
      if [ -n "$(processes "$nonce" '')" ]; then echo "$nonce running"; else echo "$nonce gone -"; fi
    elif alive; then
      line=
      [ -f report ] && read -r line <report
      [ ${#line} -le 1000 ] || line=
      printf '%s running %s\n' "$nonce" "$line"
    elif [ ! -e process ] && [ -n "$(find . -prune -mmin -1)" ]; then
      echo "$nonce running" # it is about to be
    elif [ "${booted-$boot}" != "$boot" ]; then
      echo "$nonce fallen"
    else
      status=-
      [ -f status ] && read -r status <status
      [ ${#status} -le 3 ] || status=-
      printf '%s gone %s %s\n' "$nonce" "$status" "$([ ! -f log ] || tail -c 500 log | tail -n 1 | tr -d '\000-\037')"
    fi
  done
  # A talkative session does not fill the disk.
  find "$root" -maxdepth 2 -name log -type f -size +2048k | while read -r log; do
    end=$(tail -c 65536 "$log") && printf '%s\n' "$end" >"$log"
  done
}

# Wait until no server has display $1; fails where another desktop's has it by now. One that was killed has it a moment
# longer than its environment, by which it is known.
unused() {
  tenths=0
  while grep -q "/tmp/.X11-unix/X$1\$" /proc/net/unix; do
    [ $tenths -lt 20 ] || return 1
    tenths=$((tenths + 1))
    sleep 0.1
  done
}

# Remove folder $1, also where folders in it may not be written (Go's module cache has such). What is mounted there stays.
remove() {
  rm -rf --one-file-system -- "$1" 2>/dev/null && return
  PATH=/usr/local/bin:/usr/bin:/bin find "$1" -xdev -type d \
    \( ! -perm -500 -execdir chmod u+rwx {} \; -o ! -perm -200 -execdir chmod u+w {} + \) 2>/dev/null
  rm -rf --one-file-system -- "$1"
}

# End desktop $1 and remove what it left. Its script has $2 tenths of a second to end all by itself.
cancel() {
  pid=
  cd -- "$root/$1" && { alive || pid=; }
  if [ -n "$pid" ]; then kill "$pid"; else kill $(processes "$1" ''); fi
  tenths=0
  while :; do
    if [ $tenths -lt "$2" ] && alive; then
      left=$pid
    else
      left=$(processes "$1" "$pid")
      [ $tenths -ge $(($2 - 20)) ] || tenths=$(($2 - 20)) # nobody is there who would do more
    fi
    [ -n "$left" ] || break
    [ $tenths -lt "$2" ] || kill -KILL $left
    [ $tenths -lt $(($2 + 30)) ] || fail "these processes do not end: $left"
    tenths=$((tenths + 1))
    sleep 0.1
  done
  cd /
  for temporary in /tmp/vncgate-*; do
    is_of "$temporary" "$1" || continue
    [ -f "$temporary/number" ] && number=$(head -c 16 "$temporary/number") && unused "$number" &&
      rm -f "/tmp/.X11-unix/X$number" "/tmp/.X$number-lock"
    for mount in "$temporary/gvfs" "$temporary/doc"; do
      [ ! -e "$mount" ] || fusermount3 -uz "$mount" || fusermount -uz "$mount"
    done
    # What stays is marked again, for the next desktop to remove.
    remove "$temporary" || echo "$1" >"$temporary/desktop"
  done
  for folder in "$root"/left.*; do
    [ ! -d "$folder" ] || remove "$folder"
  done
  if said=$(remove "$root/$1" 2>&1); then
    echo ended
  elif mv -T -- "$root/$1" "$root/left.$1"; then
    printf 'left %s\n' "$(printf %s "$said" | head -n 1)"
  else
    fail "$said"
  fi
}

# The last $2 lines that the session of desktop $1 wrote.
logs() {
  [ ! -f "$root/$1/log" ] || tail -c 65536 "$root/$1/log" | tail -n "$2"
}

# From now on desktop $1 asks for the password of the password file $2 (printf's escapes).
rekey() {
  cd -- "$root/$1" || fail "there is no such desktop"
  said=$({ printf "$2" | cat >passwd.new && mv -f passwd.new passwd; } 2>&1) || fail "$said"
  echo done
}
