#!/bin/bash
# A desktop: a VNC server, and a session on it. Ends when the session ends, or on SIGTERM; nothing of it is left then.
# A template of vncgate's; what double braces put in is quoted for bash, so that it needs no quotes around it.
#
# It runs as three stages: the first makes a clean environment, the second (`serve`) starts the VNC server and ends all,
# the third (`session`) is what the session's D-Bus is started around.
stage=${1-}
nonce=0123456789abcdef
folder=/var/lib/vncgate/local/0123456789abcdef
home='/scratch/o'"'"'neil'

# --- A clean environment: nothing of whoever started this -------------------------------------------------------------

if [ "$stage" != serve ] && [ "$stage" != session ]; then
  IFS=: read -r _ _ _ _ _ own_home own_shell < <(getent passwd "$(id -u)")
  user=$(id -un 2>/dev/null) || user='o'"'"'neil'
  new=(PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin LANG="${LANG:-C.UTF-8}")
  for name in $(compgen -e); do
    case $name in
      LANGUAGE | LC_* | TZ) new+=("$name=${!name}") ;;
      # What a batch system gave to this job.
      SLURM_* | CUDA_VISIBLE_DEVICES | GPU_DEVICE_ORDINAL | ROCR_VISIBLE_DEVICES) new+=("$name=${!name}") ;;
    esac
  done
  new+=(USER="$user" LOGNAME="$user" SHELL="${own_shell:-/bin/bash}" HOME="${home:-${own_home:-${HOME-}}}")
  # Orphans of the session become children of this script, so that none gets out of sight (PR_SET_CHILD_SUBREAPER).
  adopt='import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
for number in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python, and so by what it becomes
    signal.signal(number, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])'
  [ -x /usr/bin/python3 ] && adopt=(/usr/bin/python3 -I -S -c "$adopt") || adopt=()
  exec env -i "${new[@]}" VNCGATE_DESKTOP="$nonce" "${adopt[@]}" "$BASH" --noprofile --norc "$0" serve </dev/null
fi

reason() {
  printf '%s\n' "$*" >"$XDG_RUNTIME_DIR/reason"
}

# --- The session, inside its own D-Bus --------------------------------------------------------------------------------

if [ "$stage" = session ]; then
  umask 022
  export LANG=de_DE.UTF-8
  export MODE='o'"'"'neil "the" $(touch pwned) `touch pwned` \ 
; touch pwned # ‮* ~ !x'
  # As in a login shell, for `module`.
  [ -r /etc/profile ] && . /etc/profile
  eval 'module load matlab
export A='"'"'b c'"'"''
  openbox &
  # A window that is there before its manager does not get the keyboard.
  if type -P xprop >/dev/null; then
    for ((tenths = 0; tenths < 30; tenths++)); do
      xprop -root _NET_SUPPORTING_WM_CHECK 2>/dev/null | grep -q "window id" && break
      sleep 0.1
    done
  fi
  command=(startxfce4 --with 'two words')
  if ! type -P -- "${command[0]}" >/dev/null; then
    reason "${command[0]}: command not found on $(uname -n)"
    exit 127
  fi
  exec "${command[@]}"
fi

# --- Ending: the session, then the server, then its files -------------------------------------------------------------

umask 077
unset server display XDG_RUNTIME_DIR

# Children other than the server, adopted ones too; $1 `all`: and theirs, as each thread has children of its own.
children() {
  local file found=() more=() number=0 pid
  read -ra more <"/proc/$$/task/$$/children"
  for pid in "${more[@]}"; do
    case $pid in $BASHPID | "${server-}") ;; *) found+=("$pid") ;; esac
  done
  while [ "${1-}" = all ] && [ -n "${found[number]-}" ]; do
    for file in "/proc/${found[number++]}/task/"*/children; do
      more=()
      read -ra more <"$file"
      found+=("${more[@]}")
    done
  done 2>/dev/null
  [ -z "${found-}" ] || printf '%s\n' "${found[@]}"
}

# Processes with the mark of this desktop, other than this one and the server. It looks at every process of the host.
marked() {
  local file pid
  while read -r file; do
    pid=${file//[!0-9]/}
    case $pid in $$ | $BASHPID | "${server-}") ;; *) echo "$pid" ;; esac
  done < <(exec env -u VNCGATE_DESKTOP grep -lszxF "VNCGATE_DESKTOP=$nonce" /proc/[0-9]*/environ)
}

# Ask all that belongs to the desktop to end until there is nothing, for at most so many tenths of a second.
end_others() {
  local tenths pids
  pids=$(marked && children)
  for ((tenths = 0; tenths < $1; tenths++)); do
    [ -n "$pids" ] || return 0
    kill $pids 2>/dev/null
    sleep 0.1
    pids=$(children)
    [ -n "$pids" ] || pids=$(marked)
  done
  return 1
}

# Kill it: all at once, and none that starts others meanwhile.
kill_others() {
  local tenths pids
  for ((tenths = 0; tenths < $1; tenths++)); do
    pids=$(marked && children all)
    [ -n "$pids" ] || return 0
    kill -STOP $pids 2>/dev/null
    kill -KILL $pids $(children all) 2>/dev/null
    sleep 0.1
  done
}

end_server() {
  local tenths
  [ -n "${server-}" ] || return 0
  kill "$server" 2>/dev/null
  for ((tenths = 0; tenths < 20; tenths++)); do
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
  done
  kill -KILL "$server" 2>/dev/null
  wait "$server" 2>/dev/null
}

# Remove the folder $1 that a desktop has in /tmp, and what its server could not remove when it was killed. Folders in it
# may be such that may not be written, as in Go's module cache; what stays is marked, for the next desktop to remove.
remove() {
  local display mount
  # Another server may have this display by now.
  if read -r display <"$1/number" && ! grep -q "/tmp/.X11-unix/X$display\$" /proc/net/unix; then
    rm -f "/tmp/.X11-unix/X$display" "/tmp/.X$display-lock"
  fi
  # What is mounted there (gvfs, document portal) shows files that are not ours to remove.
  for mount in "$1/gvfs" "$1/doc"; do
    [ -e "$mount" ] && { fusermount3 -uz "$mount" || fusermount -uz "$mount"; }
  done
  rm -rf --one-file-system -- "$1" && return
  PATH=/usr/local/bin:/usr/bin:/bin find "$1" -xdev -type d \
    \( ! -perm -500 -execdir chmod u+rwx {} \; -o ! -perm -200 -execdir chmod u+w {} + \)
  rm -rf --one-file-system -- "$1" || echo "$nonce" >"$1/desktop"
} 2>/dev/null

finish() {
  local status=$? why
  trap '' TERM HUP INT
  end_others 20 || kill_others 20
  end_server
  [ -n "${XDG_RUNTIME_DIR-}" ] || return
  why=$(cat "$XDG_RUNTIME_DIR/reason" 2>/dev/null)
  remove "$XDG_RUNTIME_DIR"
  rm -f -- "$folder/report" "$folder/vnc.sock"
  echo "$status" >"$folder/status"
  [ -z "$why" ] || printf '%s\n' "$why" >&2
}

trap finish EXIT
trap 'exit 143' TERM HUP INT

fail() {
  reason "$@"
  exit 1
}

# --- Folders ----------------------------------------------------------------------------------------------------------

# What desktops of this user left here that had no time to end, on a node that was taken from them or a host that fell: the
# lock of a folder is held as long as anything of its desktop lives. (One that was made just now has none yet.)
while IFS= read -r -d '' left; do
  [ -f "$left/desktop" ] && flock -n "$left/desktop" true && remove "$left"
done < <(find /tmp -maxdepth 1 -name 'vncgate-*' -type d -user "$(id -u)" -mmin +1 -print0 2>/dev/null)

# /tmp is everybody's: nobody can foresee the name of the folder, and what is in it says whose it is.
XDG_RUNTIME_DIR=$(mktemp -d /tmp/vncgate-XXXXXXXXXX) || exit 1 # and mktemp said why
exec {lock}>"$XDG_RUNTIME_DIR/desktop"
flock "$lock" 2>/dev/null # where an image has none, nothing is removed by others either
echo "$nonce" >&"$lock"
mkdir "$XDG_RUNTIME_DIR/tmp"

said=$(LC_ALL=C mkdir -p -- "$HOME" 2>&1) || fail "The home folder $HOME cannot be made: ${said##*: }"
[ -d "$HOME" ] || fail "The home folder $HOME is missing on $(uname -n)."
cd -- "$HOME" || fail "The home folder $HOME may not be entered."
# 64 KiB: more than what a file system has in reserve beside its blocks.
if ! said=$(LC_ALL=C; { head -c 65536 /dev/zero >".vncgate-$nonce" && sync ".vncgate-$nonce"; } 2>&1); then
  rm -f ".vncgate-$nonce"
  case $said in
    *"No space left"*) fail "The home folder $HOME is full: remove files from it." ;;
    *uota*) fail "The home folder $HOME is over its quota: remove files from it." ;;
    *) fail "The home folder $HOME cannot be written: ${said##*: }" ;;
  esac
fi
rm -f ".vncgate-$nonce"

# --- The server -------------------------------------------------------------------------------------------------------

export XDG_RUNTIME_DIR TMPDIR="$XDG_RUNTIME_DIR/tmp" XAUTHORITY="$XDG_RUNTIME_DIR/Xauthority"

program=$(type -P Xtigervnc || type -P Xvnc) || fail "There is no Xvnc on $(uname -n): install TigerVNC's server" \
  "(Debian, Ubuntu: tigervnc-standalone-server; Fedora, RHEL: tigervnc-server-minimal)."

# A cookie that is good for any display of any host (Xau(3)), as the display is not known yet.
{
  printf '\xff\xff\0\0\0\0\0\x12MIT-MAGIC-COOKIE-1\0\x10'
  head -c 16 /dev/urandom
} >"$XAUTHORITY"

options=(-SecurityTypes VncAuth -PasswordFile "$folder/passwd" -UseBlacklist=0 -AlwaysShared -Log '*:stderr:0')
options+=(-geometry 1024x768 -depth 16 -desktop 'o'"'"'neil' -auth "$XAUTHORITY" -nolisten tcp)
options+=(-rfbunixpath "$folder/vnc.sock" -rfbunixmode 0600 -rfbport -1)

# The server takes the first free display by itself, in one step with looking for it, and with it port 5900 + display.
# Where another program has that port it ends: then a display at random is tried.
mkfifo "$XDG_RUNTIME_DIR/display"
for wish in "" 1 2 3 4 5 6 7; do
  "$program" ${wish:+":$((100 + RANDOM % 20000))"} -displayfd 3 "${options[@]}" 3>"$XDG_RUNTIME_DIR/display" \
    >"$XDG_RUNTIME_DIR/server.log" 2>&1 &
  server=$!
  read -r -t 30 display <"$XDG_RUNTIME_DIR/display" && [ -n "$display" ] && break
  end_server
  unset server display
done
if [ -z "${server-}" ]; then
  cat "$XDG_RUNTIME_DIR/server.log" >&2
  fail "Xvnc did not start: $(grep -v '^(EE) *$' "$XDG_RUNTIME_DIR/server.log" | tail -n 1)"
fi
export DISPLAY=":$display"
echo "$display" >"$XDG_RUNTIME_DIR/number"

# --- The report, in one step; then the session -------------------------------------------------------------------------

where="unix $folder/vnc.sock"
said=$({ printf '%s %s\n' "$nonce" "$where" >"$folder/report.new" && mv "$folder/report.new" "$folder/report"; } 2>&1) ||
  fail "The desktop's folder $folder cannot be written: ${said##*: }"

bus=$(type -P dbus-run-session)
${bus:+"$bus" --} "$BASH" --noprofile --norc "$0" session &
wait -n
status=$?
if ! kill -0 "$server" 2>/dev/null; then
  cat "$XDG_RUNTIME_DIR/server.log" >&2
  reason "Xvnc ended by itself, with exit status $status."
elif [ ! -e "$XDG_RUNTIME_DIR/reason" ]; then
  reason "The session ended with exit status $status."
fi
exit "$status"
