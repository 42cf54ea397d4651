from segzoo.cli.app import main

main()
