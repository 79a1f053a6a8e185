"""placeholder"""


def write_report(records, directory):
    pass
