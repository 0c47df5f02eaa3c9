# What a hostile root finds in a container, `NAME|RESULT` a line: its privileges, its mounts, its devices, and what
# look.c tries. Runs in a Debian rootfs with look beside it.
for name in CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp; do
    echo "$name|$(sed -n "s/^$name:[[:space:]]*//p" /proc/self/status)"
done
while read -r _ _ _ _ target options rest; do
    echo "mount $target|${rest#*- } $options" | sed 's/|\([a-z0-9]*\) .* \([^ ]*\)$/|\1 \2/'
done < /proc/self/mountinfo | sort
for device in /dev/*; do
    echo "$device|$(stat -c '%F %A' "$device")"
done
echo "uid_map|$(echo $(cat /proc/self/uid_map))"
echo "umask|$(umask)"
echo "open files|$(ulimit -n) $(ulimit -Hn)"
echo "processes|$(ulimit -u)"
echo "core size|$(ulimit -c)"
echo "oom_score_adj|$(cat /proc/self/oom_score_adj)"
exec /look
