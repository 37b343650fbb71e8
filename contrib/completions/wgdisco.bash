# made by contrib/generate.py, with shtab, from the parsers of the commands: make contrib

_shtab_wgdisco_plugin_subparsers=(new)
_shtab_wgdisco_subparsers=(publish resolve status why run connect endpoints backends check inspect genkey dht-node plugin)

_shtab_wgdisco_publish_option_strings=(-h --help -i --interface --private-key-file --config -b --backend -o --option --deadline --to --secret-file -e --endpoint --stun --observer --portmap --expose-hosts --leave -n --dry-run --json)
_shtab_wgdisco_resolve_option_strings=(-h --help -i --interface --private-key-file --config -b --backend -o --option --deadline --secret-file --all --short --json)
_shtab_wgdisco_status_option_strings=(-h --help -i --interface --json --watch --folder)
_shtab_wgdisco_why_option_strings=(-h --help -i --interface --config -b --backend -o --option --deadline --secret-file -e --endpoint --stun --observer --portmap --expose-hosts --json --folder)
_shtab_wgdisco_run_option_strings=(-h --help -i --interface --config -b --backend -o --option --deadline --to --secret-file -e --endpoint --stun --observer --portmap --expose-hosts --once --timeout --leave)
_shtab_wgdisco_connect_option_strings=(-h --help -i --interface --config -b --backend -o --option --deadline --to --secret-file -e --endpoint --stun --observer --portmap --expose-hosts --timeout)
_shtab_wgdisco_endpoints_option_strings=(-h --help -i --interface --config -e --endpoint --stun --observer --portmap --expose-hosts --json)
_shtab_wgdisco_backends_option_strings=(-h --help --json)
_shtab_wgdisco_check_option_strings=(-h --help -i --interface --private-key-file --config -b --backend -o --option --deadline --secret-file -e --endpoint --stun --observer --portmap --expose-hosts)
_shtab_wgdisco_inspect_option_strings=(-h --help --key --secret-file --private-key-file --at --json)
_shtab_wgdisco_genkey_option_strings=(-h --help)
_shtab_wgdisco_dht_node_option_strings=(-h --help --bind --port --bootstrap --state)
_shtab_wgdisco_plugin_new_option_strings=(-h --help)
_shtab_wgdisco_plugin_option_strings=(-h --help)
_shtab_wgdisco_option_strings=(-h --help -V --version)

_shtab_wgdisco_publish__i_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_publish___interface_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_publish___private_key_file_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_publish___config_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_publish__b_COMPGEN=_wgdisco_backends
_shtab_wgdisco_publish___backend_COMPGEN=_wgdisco_backends
_shtab_wgdisco_publish___secret_file_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_resolve_pos_0_COMPGEN=_wgdisco_peers
_shtab_wgdisco_resolve__i_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_resolve___interface_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_resolve___private_key_file_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_resolve___config_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_resolve__b_COMPGEN=_wgdisco_backends
_shtab_wgdisco_resolve___backend_COMPGEN=_wgdisco_backends
_shtab_wgdisco_resolve___secret_file_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_status__i_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_status___interface_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_why_pos_0_COMPGEN=_wgdisco_peers
_shtab_wgdisco_why__i_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_why___interface_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_why___config_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_why__b_COMPGEN=_wgdisco_backends
_shtab_wgdisco_why___backend_COMPGEN=_wgdisco_backends
_shtab_wgdisco_why___secret_file_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_run__i_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_run___interface_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_run___config_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_run__b_COMPGEN=_wgdisco_backends
_shtab_wgdisco_run___backend_COMPGEN=_wgdisco_backends
_shtab_wgdisco_run___secret_file_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_connect_pos_0_COMPGEN=_wgdisco_peers
_shtab_wgdisco_connect__i_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_connect___interface_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_connect___config_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_connect__b_COMPGEN=_wgdisco_backends
_shtab_wgdisco_connect___backend_COMPGEN=_wgdisco_backends
_shtab_wgdisco_connect___secret_file_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_endpoints__i_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_endpoints___interface_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_endpoints___config_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_backends_pos_0_COMPGEN=_wgdisco_backends
_shtab_wgdisco_check__i_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_check___interface_COMPGEN=_wgdisco_interfaces
_shtab_wgdisco_check___private_key_file_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_check___config_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_check__b_COMPGEN=_wgdisco_backends
_shtab_wgdisco_check___backend_COMPGEN=_wgdisco_backends
_shtab_wgdisco_check___secret_file_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_inspect_pos_0_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_inspect___key_COMPGEN=_wgdisco_peers
_shtab_wgdisco_inspect___secret_file_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_inspect___private_key_file_COMPGEN=_shtab_compgen_files
_shtab_wgdisco_dht_node___state_COMPGEN=_shtab_compgen_files

_shtab_wgdisco_publish___to_choices=(peers network key)
_shtab_wgdisco_run___to_choices=(peers network key)
_shtab_wgdisco_connect___to_choices=(peers network key)
_shtab_wgdisco_plugin_pos_0_choices=(new)
_shtab_wgdisco_pos_0_choices=(publish resolve status why run connect endpoints backends check inspect genkey dht-node plugin)

_shtab_wgdisco_publish__h_nargs=0
_shtab_wgdisco_publish___help_nargs=0
_shtab_wgdisco_publish___portmap_nargs=0
_shtab_wgdisco_publish___expose_hosts_nargs=0
_shtab_wgdisco_publish___leave_nargs=0
_shtab_wgdisco_publish__n_nargs=0
_shtab_wgdisco_publish___dry_run_nargs=0
_shtab_wgdisco_publish___json_nargs=0
_shtab_wgdisco_resolve__h_nargs=0
_shtab_wgdisco_resolve___help_nargs=0
_shtab_wgdisco_resolve___all_nargs=0
_shtab_wgdisco_resolve___short_nargs=0
_shtab_wgdisco_resolve___json_nargs=0
_shtab_wgdisco_status__h_nargs=0
_shtab_wgdisco_status___help_nargs=0
_shtab_wgdisco_status___json_nargs=0
_shtab_wgdisco_status___watch_nargs=0
_shtab_wgdisco_why__h_nargs=0
_shtab_wgdisco_why___help_nargs=0
_shtab_wgdisco_why___portmap_nargs=0
_shtab_wgdisco_why___expose_hosts_nargs=0
_shtab_wgdisco_why___json_nargs=0
_shtab_wgdisco_run__h_nargs=0
_shtab_wgdisco_run___help_nargs=0
_shtab_wgdisco_run___portmap_nargs=0
_shtab_wgdisco_run___expose_hosts_nargs=0
_shtab_wgdisco_run___once_nargs=0
_shtab_wgdisco_run___leave_nargs=0
_shtab_wgdisco_connect__h_nargs=0
_shtab_wgdisco_connect___help_nargs=0
_shtab_wgdisco_connect___portmap_nargs=0
_shtab_wgdisco_connect___expose_hosts_nargs=0
_shtab_wgdisco_endpoints__h_nargs=0
_shtab_wgdisco_endpoints___help_nargs=0
_shtab_wgdisco_endpoints___portmap_nargs=0
_shtab_wgdisco_endpoints___expose_hosts_nargs=0
_shtab_wgdisco_endpoints___json_nargs=0
_shtab_wgdisco_backends__h_nargs=0
_shtab_wgdisco_backends___help_nargs=0
_shtab_wgdisco_backends___json_nargs=0
_shtab_wgdisco_check__h_nargs=0
_shtab_wgdisco_check___help_nargs=0
_shtab_wgdisco_check___portmap_nargs=0
_shtab_wgdisco_check___expose_hosts_nargs=0
_shtab_wgdisco_inspect__h_nargs=0
_shtab_wgdisco_inspect___help_nargs=0
_shtab_wgdisco_inspect___json_nargs=0
_shtab_wgdisco_genkey__h_nargs=0
_shtab_wgdisco_genkey___help_nargs=0
_shtab_wgdisco_dht_node__h_nargs=0
_shtab_wgdisco_dht_node___help_nargs=0
_shtab_wgdisco_plugin_new__h_nargs=0
_shtab_wgdisco_plugin_new___help_nargs=0
_shtab_wgdisco_plugin_pos_0_nargs=A...
_shtab_wgdisco_plugin__h_nargs=0
_shtab_wgdisco_plugin___help_nargs=0
_shtab_wgdisco_pos_0_nargs=A...
_shtab_wgdisco__h_nargs=0
_shtab_wgdisco___help_nargs=0
_shtab_wgdisco__V_nargs=0
_shtab_wgdisco___version_nargs=0


# Custom Preamble
_wgdisco_interfaces() {
  compgen -W "$(wg show interfaces 2>/dev/null | tr ' ' '\n')" -- "$1"
}

_wgdisco_backends() {
  compgen -W "$(wgdisco backends 2>/dev/null | sed -n '/^[^ ]/!q; s/ .*//p')" -- "$1"
}

_wgdisco_peers() {
  compgen -W "$(wg show all peers 2>/dev/null | cut -f 2)" -- "$1"
}

# End Custom Preamble

# $1=COMP_WORDS[1]
_shtab_compgen_files() {
  compgen -f -- $1  # files
}

# $1=COMP_WORDS[1]
_shtab_compgen_dirs() {
  compgen -d -- $1  # recurse into subdirs
}

# $1=COMP_WORDS[1]
_shtab_replace_nonword() {
  echo "${1//[^[:word:]]/_}"
}

# set default values (called for the initial parser & any subparsers)
_set_parser_defaults() {
  local subparsers_var="${prefix}_subparsers[@]"
  sub_parsers=${!subparsers_var-}

  local current_option_strings_var="${prefix}_option_strings[@]"
  current_option_strings=${!current_option_strings_var}

  completed_positional_actions=0

  _set_new_action "pos_$completed_positional_actions" true
}

# $1=action identifier
# $2=positional action (bool)
# set all identifiers for an action's parameters
_set_new_action() {
  current_action="${prefix}_$(_shtab_replace_nonword $1)"

  local current_action_compgen_var=${current_action}_COMPGEN
  current_action_compgen="${!current_action_compgen_var-}"

  local current_action_choices_var="${current_action}_choices[@]"
  current_action_choices="${!current_action_choices_var-}"

  local current_action_nargs_var="${current_action}_nargs"
  if [ -n "${!current_action_nargs_var-}" ]; then
    current_action_nargs="${!current_action_nargs_var}"
  else
    current_action_nargs=1
  fi

  current_action_args_start_index=$(( $word_index + 1 - $pos_only ))

  current_action_is_positional=$2
}

# Notes:
# `COMPREPLY`: what will be rendered after completion is triggered
# `completing_word`: currently typed word to generate completions for
# `${!var}`: evaluates the content of `var` and expand its content as a variable
#     hello="world"
#     x="hello"
#     ${!x} -> ${hello} -> "world"
_shtab_wgdisco() {
  local completing_word="${COMP_WORDS[COMP_CWORD]}"
  local previous_word="${COMP_WORDS[COMP_CWORD-1]}"
  local completed_positional_actions
  local current_action
  local current_action_args_start_index
  local current_action_choices
  local current_action_compgen
  local current_action_is_positional
  local current_action_nargs
  local current_option_strings
  local sub_parsers
  COMPREPLY=()

  local prefix=_shtab_wgdisco
  local word_index=0
  local pos_only=0 # "--" delimiter not encountered yet
  _set_parser_defaults
  word_index=1

  # determine what arguments are appropriate for the current state
  # of the arg parser
  while [ $word_index -ne $COMP_CWORD ]; do
    local this_word="${COMP_WORDS[$word_index]}"

    if [[ $pos_only = 1 || " $this_word " != " -- " ]]; then
      if [[ -n $sub_parsers && " ${sub_parsers[@]} " == *" $this_word "* ]]; then
        # valid subcommand: add it to the prefix & reset the current action
        prefix="${prefix}_$(_shtab_replace_nonword $this_word)"
        _set_parser_defaults
      fi

      if [[ " ${current_option_strings[@]} " == *" $this_word "* ]]; then
        # a new action should be acquired (due to recognised option string or
        # no more input expected from current action);
        # the next positional action can fill in here
        _set_new_action $this_word false
      fi

      if [[ "$current_action_nargs" != "*" ]] && \
         [[ "$current_action_nargs" != "+" ]] && \
         [[ "$current_action_nargs" != "?" ]] && \
         [[ "$current_action_nargs" != *"..." ]] && \
         (( $word_index + 1 - $current_action_args_start_index - $pos_only >= \
            $current_action_nargs )); then
        $current_action_is_positional && let "completed_positional_actions += 1"
        _set_new_action "pos_$completed_positional_actions" true
      fi
    else
      pos_only=1 # "--" delimiter encountered
    fi

    let "word_index+=1"
  done

  # Generate the completions

  COMPREPLY=()
  if [[ $pos_only = 0 && "$completing_word" == -* &&
        ( -z "$current_action_compgen" || "$current_action_is_positional" = true ) ]]; then
    # optional argument started: use option strings
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_option_strings[*]}" -- "$completing_word")
  elif [[ "$previous_word" =~ ^[0-9\&]*[\<\>]\>?$ ]]; then
    # handle redirection operators
    compopt -o filenames 2>/dev/null || : # bash>=4
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$completing_word")
  else
    # use choices & compgen
    local action_compgen_word="$completing_word"
    # handle tab-completing in the middle of a line (#248 <- #116)
    [[ -n "$current_action_compgen" && "$completing_word" == -* ]] && action_compgen_word=""
    [ -n "$current_action_compgen" ] && {
      [[ "$current_action_compgen" =~ _(file|dir|glob|FILE|DIR|GLOB)|File|Dir|Glob ]] &&
        compopt -o filenames 2>/dev/null || : # bash>=4
      while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
        "$current_action_compgen" "$action_compgen_word")
    }
    while IFS= read -r line; do COMPREPLY+=("$line"); done < <(
      compgen -W "${current_action_choices[*]}" -- "$completing_word")
  fi

  if [[ ${#COMPREPLY[@]} = 0 ]]; then
    # native fallback matches are not necessarily filenames (e.g. variables)
    compopt +o filenames 2>/dev/null || : # bash>=4
  fi

  return 0
}

complete -o bashdefault -F _shtab_wgdisco wgdisco