import csv
import sys

from ledger.balance import balances
from ledger.money import to_text

with open(sys.argv[1], newline="") as file:
    for account, cents in sorted(balances(csv.DictReader(file)).items()):
        print(f"{account:10} {to_text(cents):>10}")
