# made by contrib/generate.py, with shtab, from the parsers of the commands: make contrib


# Parse current commandline:
# - _shtab_wgdisco_cmdpath=(sub)command path seen so far
# - _shtab_wgdisco_npos=number of positional arguments given after it
# - options are skipped based on _shtab_wgdisco_opts_with_value & _shtab_wgdisco_commands lists
function _shtab_wgdisco_scan
  set -g _shtab_wgdisco_cmdpath ''
  set -g _shtab_wgdisco_npos 0
  set -l tokens (commandline -opc)
  set -e tokens[1]
  set -l expect_value 0
  for t in $tokens
    if test $expect_value -eq 1
      set expect_value 0
      continue
    end
    switch "$t"
      case '--*=*'
        continue
      case '-*'
        if contains -- $t $_shtab_wgdisco_opts_with_value
          set expect_value 1
        end
        continue
      case '*'
        if test $_shtab_wgdisco_npos -eq 0
          set -l candidate $t
          if test -n "$_shtab_wgdisco_cmdpath"
            set candidate "$_shtab_wgdisco_cmdpath $t"
          end
          if contains -- $candidate $_shtab_wgdisco_commands
            set -g _shtab_wgdisco_cmdpath $candidate
            continue
          end
        end
        set -g _shtab_wgdisco_npos (math $_shtab_wgdisco_npos + 1)
    end
  end
end

# Condition helper: true if the current (sub)command path equals the given one.
function _shtab_wgdisco_using
  _shtab_wgdisco_scan
  test "$_shtab_wgdisco_cmdpath" = "$argv"
end

set -g _shtab_wgdisco_commands publish resolve status why run connect endpoints backends check inspect genkey dht-node plugin 'plugin new'
set -g _shtab_wgdisco_opts_with_value --at --backend --bind --bootstrap --config --deadline --endpoint --folder --interface --key --observer --option --port --private-key-file --secret-file --state --stun --timeout --to -b -e -i -o

complete -c wgdisco -e
complete -c wgdisco -f

complete -c wgdisco -n _shtab_wgdisco_using -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n _shtab_wgdisco_using -s V -l version -d 'print the version'
complete -c wgdisco -n '_shtab_wgdisco_using; and test $_shtab_wgdisco_npos -eq 0' -a publish -d 'sign where this node can be reached and store it'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -s i -l interface -xka "(wg show interfaces 2>/dev/null | tr ' ' '\n')" -d 'the WireGuard interface (default: the only one)'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -l private-key-file -xka "(__fish_complete_path (commandline -ct))" -d 'a private key in a file of mode 0600, for a host without interface'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -l config -xka "(__fish_complete_path (commandline -ct))" -d 'default: /etc/wgdisco/INTERFACE.toml, if it exists'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -s b -l backend -xka "(wgdisco backends 2>/dev/null | sed -n '/^[^ ]/!q; s/ .*//p')" -d 'may be given several times (default: dht, and lan where its library is installed)'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -s o -l option -x -d 'an option of the backend; NAME.KEY=VALUE when there are several'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -l deadline -x -d 'for each call (default: the store'"'"'s own, mostly 5)'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -l to -xka "peers network key" -d 'each peer of the interface (default), whoever has the network secret, or whoever knows our public key'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -l secret-file -xka "(__fish_complete_path (commandline -ct))" -d 'a network secret as `wgdisco genkey` prints it'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -s e -l endpoint -x -d 'say this instead of finding out'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -l stun -x -d 'STUN servers to ask instead; `none` asks none'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -l observer -x -d 'DHT nodes to ask where no STUN server answers (default: those of backend dht, if it is used)'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -l portmap -d 'ask the router to forward our port (PCP, NAT-PMP, UPnP)'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -l expose-hosts -d 'with --to key: also the addresses inside our own network'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -l leave -d 'say good-bye: publish a record without endpoints'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -s n -l dry-run -d 'show what would be said to whom; store nothing'
complete -c wgdisco -n '_shtab_wgdisco_using publish' -l json -d 'the outcome as one object'
complete -c wgdisco -n '_shtab_wgdisco_using; and test $_shtab_wgdisco_npos -eq 0' -a resolve -d 'find the record of a public key and verify it'
complete -c wgdisco -n '_shtab_wgdisco_using resolve' -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n '_shtab_wgdisco_using resolve' -s i -l interface -xka "(wg show interfaces 2>/dev/null | tr ' ' '\n')" -d 'the WireGuard interface (default: the only one)'
complete -c wgdisco -n '_shtab_wgdisco_using resolve' -l private-key-file -xka "(__fish_complete_path (commandline -ct))" -d 'a private key in a file of mode 0600, for a host without interface'
complete -c wgdisco -n '_shtab_wgdisco_using resolve' -l config -xka "(__fish_complete_path (commandline -ct))" -d 'default: /etc/wgdisco/INTERFACE.toml, if it exists'
complete -c wgdisco -n '_shtab_wgdisco_using resolve' -s b -l backend -xka "(wgdisco backends 2>/dev/null | sed -n '/^[^ ]/!q; s/ .*//p')" -d 'may be given several times (default: dht, and lan where its library is installed)'
complete -c wgdisco -n '_shtab_wgdisco_using resolve' -s o -l option -x -d 'an option of the backend; NAME.KEY=VALUE when there are several'
complete -c wgdisco -n '_shtab_wgdisco_using resolve' -l deadline -x -d 'for each call (default: the store'"'"'s own, mostly 5)'
complete -c wgdisco -n '_shtab_wgdisco_using resolve' -l secret-file -xka "(__fish_complete_path (commandline -ct))" -d 'a network secret as `wgdisco genkey` prints it'
complete -c wgdisco -n '_shtab_wgdisco_using resolve' -l all -d 'wait for every backend, and show what each of them said'
complete -c wgdisco -n '_shtab_wgdisco_using resolve' -l short -d 'the best endpoint alone, for scripts'
complete -c wgdisco -n '_shtab_wgdisco_using resolve' -l json -d 'the record as one object'
complete -c wgdisco -n '_shtab_wgdisco_using resolve; and test $_shtab_wgdisco_npos -eq 0' -ka "(wg show all peers 2>/dev/null | cut -f 2)" -d 'the WireGuard public key, as `wg pubkey` prints it'
complete -c wgdisco -n '_shtab_wgdisco_using; and test $_shtab_wgdisco_npos -eq 0' -a status -d 'what the agent knows and does (the default)'
complete -c wgdisco -n '_shtab_wgdisco_using status' -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n '_shtab_wgdisco_using status' -s i -l interface -xka "(wg show interfaces 2>/dev/null | tr ' ' '\n')" -d 'the interface of the agent (default: all there are)'
complete -c wgdisco -n '_shtab_wgdisco_using status' -l json -d 'the reports as one object (docs/status.md)'
complete -c wgdisco -n '_shtab_wgdisco_using status' -l watch -d 'show it every second until interrupted'
complete -c wgdisco -n '_shtab_wgdisco_using status' -l folder -x -d 'where the agents'"'"' reports lie (default: /run/wgdisco)'
complete -c wgdisco -n '_shtab_wgdisco_using; and test $_shtab_wgdisco_npos -eq 0' -a why -d 'why a peer is not connected, or that it is'
complete -c wgdisco -n '_shtab_wgdisco_using why' -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n '_shtab_wgdisco_using why' -s i -l interface -xka "(wg show interfaces 2>/dev/null | tr ' ' '\n')" -d 'the WireGuard interface (default: the only one)'
complete -c wgdisco -n '_shtab_wgdisco_using why' -l config -xka "(__fish_complete_path (commandline -ct))" -d 'default: /etc/wgdisco/INTERFACE.toml, if it exists'
complete -c wgdisco -n '_shtab_wgdisco_using why' -s b -l backend -xka "(wgdisco backends 2>/dev/null | sed -n '/^[^ ]/!q; s/ .*//p')" -d 'may be given several times (default: dht, and lan where its library is installed)'
complete -c wgdisco -n '_shtab_wgdisco_using why' -s o -l option -x -d 'an option of the backend; NAME.KEY=VALUE when there are several'
complete -c wgdisco -n '_shtab_wgdisco_using why' -l deadline -x -d 'for each call (default: the store'"'"'s own, mostly 5)'
complete -c wgdisco -n '_shtab_wgdisco_using why' -l secret-file -xka "(__fish_complete_path (commandline -ct))" -d 'a network secret as `wgdisco genkey` prints it'
complete -c wgdisco -n '_shtab_wgdisco_using why' -s e -l endpoint -x -d 'say this instead of finding out'
complete -c wgdisco -n '_shtab_wgdisco_using why' -l stun -x -d 'STUN servers to ask instead; `none` asks none'
complete -c wgdisco -n '_shtab_wgdisco_using why' -l observer -x -d 'DHT nodes to ask where no STUN server answers (default: those of backend dht, if it is used)'
complete -c wgdisco -n '_shtab_wgdisco_using why' -l portmap -d 'ask the router to forward our port (PCP, NAT-PMP, UPnP)'
complete -c wgdisco -n '_shtab_wgdisco_using why' -l expose-hosts -d 'with --to key: also the addresses inside our own network'
complete -c wgdisco -n '_shtab_wgdisco_using why' -l json -d 'the findings as one object (docs/status.md)'
complete -c wgdisco -n '_shtab_wgdisco_using why' -l folder -x -d 'where the agents'"'"' reports lie (default: /run/wgdisco)'
complete -c wgdisco -n '_shtab_wgdisco_using why; and test $_shtab_wgdisco_npos -eq 0' -ka "(wg show all peers 2>/dev/null | cut -f 2)" -d 'the public key of a peer of the interface, or its beginning'
complete -c wgdisco -n '_shtab_wgdisco_using; and test $_shtab_wgdisco_npos -eq 0' -a run -d 'the agent: keep publishing, and keep peers reachable'
complete -c wgdisco -n '_shtab_wgdisco_using run' -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n '_shtab_wgdisco_using run' -s i -l interface -xka "(wg show interfaces 2>/dev/null | tr ' ' '\n')" -d 'the WireGuard interface (default: the only one)'
complete -c wgdisco -n '_shtab_wgdisco_using run' -l config -xka "(__fish_complete_path (commandline -ct))" -d 'default: /etc/wgdisco/INTERFACE.toml, if it exists'
complete -c wgdisco -n '_shtab_wgdisco_using run' -s b -l backend -xka "(wgdisco backends 2>/dev/null | sed -n '/^[^ ]/!q; s/ .*//p')" -d 'may be given several times (default: dht, and lan where its library is installed)'
complete -c wgdisco -n '_shtab_wgdisco_using run' -s o -l option -x -d 'an option of the backend; NAME.KEY=VALUE when there are several'
complete -c wgdisco -n '_shtab_wgdisco_using run' -l deadline -x -d 'for each call (default: the store'"'"'s own, mostly 5)'
complete -c wgdisco -n '_shtab_wgdisco_using run' -l to -xka "peers network key" -d 'each peer of the interface (default), whoever has the network secret, or whoever knows our public key'
complete -c wgdisco -n '_shtab_wgdisco_using run' -l secret-file -xka "(__fish_complete_path (commandline -ct))" -d 'a network secret as `wgdisco genkey` prints it'
complete -c wgdisco -n '_shtab_wgdisco_using run' -s e -l endpoint -x -d 'say this instead of finding out'
complete -c wgdisco -n '_shtab_wgdisco_using run' -l stun -x -d 'STUN servers to ask instead; `none` asks none'
complete -c wgdisco -n '_shtab_wgdisco_using run' -l observer -x -d 'DHT nodes to ask where no STUN server answers (default: those of backend dht, if it is used)'
complete -c wgdisco -n '_shtab_wgdisco_using run' -l portmap -d 'ask the router to forward our port (PCP, NAT-PMP, UPnP)'
complete -c wgdisco -n '_shtab_wgdisco_using run' -l expose-hosts -d 'with --to key: also the addresses inside our own network'
complete -c wgdisco -n '_shtab_wgdisco_using run' -l once -d 'publish, connect every peer, and end: for cron'
complete -c wgdisco -n '_shtab_wgdisco_using run' -l timeout -x -d 'with --once (default: 20)'
complete -c wgdisco -n '_shtab_wgdisco_using run' -l leave -d 'publish a good-bye at the end: a record without endpoints'
complete -c wgdisco -n '_shtab_wgdisco_using; and test $_shtab_wgdisco_npos -eq 0' -a connect -d 'find a peer, punch through and return at the handshake'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -s i -l interface -xka "(wg show interfaces 2>/dev/null | tr ' ' '\n')" -d 'the WireGuard interface (default: the only one)'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -l config -xka "(__fish_complete_path (commandline -ct))" -d 'default: /etc/wgdisco/INTERFACE.toml, if it exists'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -s b -l backend -xka "(wgdisco backends 2>/dev/null | sed -n '/^[^ ]/!q; s/ .*//p')" -d 'may be given several times (default: dht, and lan where its library is installed)'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -s o -l option -x -d 'an option of the backend; NAME.KEY=VALUE when there are several'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -l deadline -x -d 'for each call (default: the store'"'"'s own, mostly 5)'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -l to -xka "peers network key" -d 'each peer of the interface (default), whoever has the network secret, or whoever knows our public key'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -l secret-file -xka "(__fish_complete_path (commandline -ct))" -d 'a network secret as `wgdisco genkey` prints it'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -s e -l endpoint -x -d 'say this instead of finding out'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -l stun -x -d 'STUN servers to ask instead; `none` asks none'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -l observer -x -d 'DHT nodes to ask where no STUN server answers (default: those of backend dht, if it is used)'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -l portmap -d 'ask the router to forward our port (PCP, NAT-PMP, UPnP)'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -l expose-hosts -d 'with --to key: also the addresses inside our own network'
complete -c wgdisco -n '_shtab_wgdisco_using connect' -l timeout -x -d 'default: 600'
complete -c wgdisco -n '_shtab_wgdisco_using connect; and test $_shtab_wgdisco_npos -eq 0' -ka "(wg show all peers 2>/dev/null | cut -f 2)" -d 'the public key of a peer of the interface, or its beginning'
complete -c wgdisco -n '_shtab_wgdisco_using; and test $_shtab_wgdisco_npos -eq 0' -a endpoints -d 'where am I, and what does my NAT allow'
complete -c wgdisco -n '_shtab_wgdisco_using endpoints' -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n '_shtab_wgdisco_using endpoints' -s i -l interface -xka "(wg show interfaces 2>/dev/null | tr ' ' '\n')" -d 'the WireGuard interface (default: the only one)'
complete -c wgdisco -n '_shtab_wgdisco_using endpoints' -l config -xka "(__fish_complete_path (commandline -ct))" -d 'default: /etc/wgdisco/INTERFACE.toml, if it exists'
complete -c wgdisco -n '_shtab_wgdisco_using endpoints' -s e -l endpoint -x -d 'say this instead of finding out'
complete -c wgdisco -n '_shtab_wgdisco_using endpoints' -l stun -x -d 'STUN servers to ask instead; `none` asks none'
complete -c wgdisco -n '_shtab_wgdisco_using endpoints' -l observer -x -d 'DHT nodes to ask where no STUN server answers (default: those of backend dht, if it is used)'
complete -c wgdisco -n '_shtab_wgdisco_using endpoints' -l portmap -d 'ask the router to forward our port (PCP, NAT-PMP, UPnP)'
complete -c wgdisco -n '_shtab_wgdisco_using endpoints' -l expose-hosts -d 'with --to key: also the addresses inside our own network'
complete -c wgdisco -n '_shtab_wgdisco_using endpoints' -l json -d 'the findings as one object'
complete -c wgdisco -n '_shtab_wgdisco_using; and test $_shtab_wgdisco_npos -eq 0' -a backends -d 'the stores there are, and their options'
complete -c wgdisco -n '_shtab_wgdisco_using backends' -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n '_shtab_wgdisco_using backends' -l json -d 'the list, or the options of NAME, as one object'
complete -c wgdisco -n '_shtab_wgdisco_using backends; and test $_shtab_wgdisco_npos -eq 0' -ka "(wgdisco backends 2>/dev/null | sed -n '/^[^ ]/!q; s/ .*//p')" -d 'show this backend'"'"'s options'
complete -c wgdisco -n '_shtab_wgdisco_using; and test $_shtab_wgdisco_npos -eq 0' -a check -d 'try everything once: interface, keys, STUN, every backend'
complete -c wgdisco -n '_shtab_wgdisco_using check' -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n '_shtab_wgdisco_using check' -s i -l interface -xka "(wg show interfaces 2>/dev/null | tr ' ' '\n')" -d 'the WireGuard interface (default: the only one)'
complete -c wgdisco -n '_shtab_wgdisco_using check' -l private-key-file -xka "(__fish_complete_path (commandline -ct))" -d 'a private key in a file of mode 0600, for a host without interface'
complete -c wgdisco -n '_shtab_wgdisco_using check' -l config -xka "(__fish_complete_path (commandline -ct))" -d 'default: /etc/wgdisco/INTERFACE.toml, if it exists'
complete -c wgdisco -n '_shtab_wgdisco_using check' -s b -l backend -xka "(wgdisco backends 2>/dev/null | sed -n '/^[^ ]/!q; s/ .*//p')" -d 'may be given several times (default: dht, and lan where its library is installed)'
complete -c wgdisco -n '_shtab_wgdisco_using check' -s o -l option -x -d 'an option of the backend; NAME.KEY=VALUE when there are several'
complete -c wgdisco -n '_shtab_wgdisco_using check' -l deadline -x -d 'for each call (default: the store'"'"'s own, mostly 5)'
complete -c wgdisco -n '_shtab_wgdisco_using check' -l secret-file -xka "(__fish_complete_path (commandline -ct))" -d 'a network secret as `wgdisco genkey` prints it'
complete -c wgdisco -n '_shtab_wgdisco_using check' -s e -l endpoint -x -d 'say this instead of finding out'
complete -c wgdisco -n '_shtab_wgdisco_using check' -l stun -x -d 'STUN servers to ask instead; `none` asks none'
complete -c wgdisco -n '_shtab_wgdisco_using check' -l observer -x -d 'DHT nodes to ask where no STUN server answers (default: those of backend dht, if it is used)'
complete -c wgdisco -n '_shtab_wgdisco_using check' -l portmap -d 'ask the router to forward our port (PCP, NAT-PMP, UPnP)'
complete -c wgdisco -n '_shtab_wgdisco_using check' -l expose-hosts -d 'with --to key: also the addresses inside our own network'
complete -c wgdisco -n '_shtab_wgdisco_using; and test $_shtab_wgdisco_npos -eq 0' -a inspect -d 'decode a blob as a store keeps it'
complete -c wgdisco -n '_shtab_wgdisco_using inspect' -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n '_shtab_wgdisco_using inspect' -l key -xka "(wg show all peers 2>/dev/null | cut -f 2)" -d 'the public key whose record it should be'
complete -c wgdisco -n '_shtab_wgdisco_using inspect' -l secret-file -xka "(__fish_complete_path (commandline -ct))" -d 'a network secret as `wgdisco genkey` prints it'
complete -c wgdisco -n '_shtab_wgdisco_using inspect' -l private-key-file -xka "(__fish_complete_path (commandline -ct))" -d 'our private key, for a record meant for us alone'
complete -c wgdisco -n '_shtab_wgdisco_using inspect' -l at -x -d 'judge it as of this time in seconds, decimals allowed'
complete -c wgdisco -n '_shtab_wgdisco_using inspect' -l json -d 'the record, or {"error": "REASON"}'
complete -c wgdisco -n '_shtab_wgdisco_using inspect; and test $_shtab_wgdisco_npos -eq 0' -ka "(__fish_complete_path (commandline -ct))" -d 'the blob, raw or as text; - is stdin'
complete -c wgdisco -n '_shtab_wgdisco_using; and test $_shtab_wgdisco_npos -eq 0' -a genkey -d 'make the secret of a network'
complete -c wgdisco -n '_shtab_wgdisco_using genkey' -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n '_shtab_wgdisco_using; and test $_shtab_wgdisco_npos -eq 0' -a dht-node -d 'run a storing node of the DHT'
complete -c wgdisco -n '_shtab_wgdisco_using dht-node' -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n '_shtab_wgdisco_using dht-node' -l bind -x -d 'listen here alone (default: everywhere)'
complete -c wgdisco -n '_shtab_wgdisco_using dht-node' -l port -x -d 'UDP port (default: 6881)'
complete -c wgdisco -n '_shtab_wgdisco_using dht-node' -l bootstrap -x -d 'a node to start from; none for the first of a private network'
complete -c wgdisco -n '_shtab_wgdisco_using dht-node' -l state -xka "(__fish_complete_path (commandline -ct))" -d 'keep the node'"'"'s id and neighbours here over a restart'
complete -c wgdisco -n '_shtab_wgdisco_using; and test $_shtab_wgdisco_npos -eq 0' -a plugin -d 'write a package of your own that adds a store'
complete -c wgdisco -n '_shtab_wgdisco_using plugin' -s h -l help -d 'show this help message and exit'
complete -c wgdisco -n '_shtab_wgdisco_using plugin; and test $_shtab_wgdisco_npos -eq 0' -a new -d 'write a package with a backend, its tests and all they need'
complete -c wgdisco -n '_shtab_wgdisco_using plugin new' -s h -l help -d 'show this help message and exit'
