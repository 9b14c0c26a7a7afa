"""Write the prompts from which the shipped tables are distilled: code, math and chat, from templates and topics.

python tools/make_distill_prompts.py metasd/data/prompts/distill.jsonl  # nothing is drawn: the same file each time
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

# -- code: (name, what it does) ---------------------------------------------------------------------------------------

TASKS = [
    ("count_vowels", "counts the vowels in a string"),
    ("is_prime", "checks whether a number is prime"),
    ("flatten", "flattens a list of lists into one list"),
    ("word_lengths", "returns a dictionary that maps each word of a sentence to its length"),
    ("second_largest", "returns the second largest number in a list"),
    ("remove_duplicates", "removes duplicates from a list and keeps the order"),
    ("fahrenheit", "converts a temperature from Celsius to Fahrenheit"),
    ("merge_sorted", "merges two sorted lists into one sorted list"),
    ("binary_search", "finds the index of a value in a sorted list by binary search"),
    ("gcd", "computes the greatest common divisor of two integers"),
    ("running_total", "returns the running totals of a list of numbers"),
    ("rotate", "rotates a list to the right by k positions"),
    ("transpose", "transposes a matrix given as a list of rows"),
    ("char_frequency", "counts how often each character occurs in a string"),
    ("is_leap_year", "checks whether a year is a leap year"),
    ("title_case", "capitalizes the first letter of every word in a sentence"),
    ("chunks", "splits a list into pieces of a given size"),
    ("common_items", "returns the items that two lists have in common"),
    ("to_binary", "converts a positive integer to a binary string"),
    ("power", "raises a base to an integer exponent without using the ** operator"),
    ("median", "returns the median of a list of numbers"),
    ("bubble_sort", "sorts a list of numbers with bubble sort"),
    ("read_lines", "reads a text file and returns its lines without line breaks"),
    ("longest_word", "returns the longest word in a sentence"),
    ("is_sorted", "checks whether a list is sorted in ascending order"),
    ("digit_sum", "returns the sum of the digits of an integer"),
    ("invert_dict", "swaps the keys and the values of a dictionary"),
    ("group_by_length", "groups a list of words by their length"),
    ("multiply_matrices", "multiplies two matrices given as lists of rows"),
    ("validate_password", "checks that a password has at least eight characters, a digit and an uppercase letter"),
    ("collatz", "returns the Collatz sequence that starts at a given number"),
    ("average_grade", "returns the average grade of a list of student dictionaries"),
    ("filter_even", "keeps only the even numbers of a list"),
    ("dot_product", "computes the dot product of two vectors"),
    ("count_lines", "counts the lines of a file that are not empty"),
    ("caesar", "encrypts a text with a Caesar cipher and a given shift"),
]

CODE_FORMS = [
    "Write a Python function `{name}` that {does}.",
    "Write a Python function called {name} that {does}. Add a docstring and an example call.",
    "I need Python code that {does}. Show the function and explain each step in one sentence.",
    "Write unit tests with pytest for a Python function `{name}` that {does}.",
]

CLASSES = [
    ("Stack", "push, pop and peek"),
    ("Queue", "enqueue, dequeue and size"),
    ("BankAccount", "deposit, withdraw and balance"),
    ("Rectangle", "area and perimeter"),
    ("ShoppingCart", "add an item, remove an item and total price"),
    ("Timer", "start, stop and elapsed"),
    ("Student", "add a grade, average and best grade"),
    ("LinkedList", "append, prepend and print all values"),
    ("Counter", "increment, decrement and reset"),
    ("Playlist", "add a song, remove a song and list all songs"),
]

SNIPPETS = [
    "def f(items):\n    result = []\n    for item in items:\n        if item > 0:\n            result.append(item * "
    "2)\n"
    "    return result",
    "def f(n):\n    if n <= 1:\n        return n\n    return f(n - 1) + f(n - 2)",
    "def f(text):\n    words = text.split()\n    words.reverse()\n    return ' '.join(words)",
    "def f(data):\n    best = data[0]\n    for value in data[1:]:\n        if value < best:\n            best = value\n"
    "    return best",
    "def f(a, b):\n    while b:\n        a, b = b, a % b\n    return a",
    "def f(names, ages):\n    people = {}\n    for name, age in zip(names, ages):\n        people[name] = age\n"
    "    return people",
    "def f(rows):\n    total = 0\n    for row in rows:\n        for value in row:\n            total += value\n"
    "    return total",
    "def f(path):\n    with open(path) as file:\n        return sum(1 for line in file if line.strip())",
]

SNIPPET_FORMS = [
    "Explain step by step what this Python function does:\n\n{code}",
    "Add type hints and a docstring to this Python function:\n\n{code}",
]

# -- math: word problems, each with number slots filled four ways ------------------------------------------------------

NAMES = ["Anna", "Ben", "Clara", "David", "Emma", "Felix", "Greta", "Henry"]

PROBLEMS = [
    "{who} buys {a} notebooks for ${b} each and {c} pens for ${d} each. How much does {who} spend in total?",
    "A baker makes {a} trays of rolls with {b} rolls on each tray. She sells {c} rolls. How many rolls are left?",
    "A train travels at {x} km per hour for {b} hours and then at {y} km per hour for {d} hours. How far does it go?",
    "{who} has {x} marbles. {who} gives {a} marbles to each of {b} friends. How many marbles does {who} keep?",
    "A shirt costs ${x} and is on sale for {p}% off. What is the sale price?",
    "{who} earns ${a} an hour and works {b} hours a day for {d} days. How much does {who} earn?",
    "A tank holds {z} liters. It is filled at {a} liters per minute. After {b} minutes, how many liters are missing?",
    "A class has {x} students. {p}% of them walk to school. How many students do not walk to school?",
    "The sum of two numbers is {z} and one of them is {x}. What is the product of the two numbers?",
    "Solve for x: {a}x + {b} = {v}. Show every step.",
    "Solve for x: {a}(x - {b}) = {w}. Show every step.",
    "A rectangle is {x} cm long and {y} cm wide. What are its perimeter and its area?",
    "{who} reads {a} pages every morning and {b} pages every evening. How many pages does {who} read in {c} days?",
    "A farmer has {x} hens. Each hen lays {d} eggs a week. Eggs are sold in boxes of {b}. How many boxes a week is "
    "that?",
    "A car uses {d} liters of fuel for every {x} km. How many liters does it need for {z} km?",
    "{who} saves ${a} every week. A bicycle costs ${z}. After how many weeks can {who} buy it?",
    "There are {a} red, {b} blue and {c} green balls in a bag. What is the probability of drawing a blue ball?",
    "A recipe for {d} people needs {x} grams of flour. How many grams are needed for {b} people?",
    "What is {p}% of {z}? Explain how you calculate it.",
    "The average of four numbers is {b}. Three of them are {a}, {c} and {d}. What is the fourth number?",
    "{who} is {d} times as old as a cousin who is {a} years old. How old will {who} be in {b} years?",
    "A shop sells {x} apples on Monday, twice as many on Tuesday and {a} fewer on Wednesday than on Tuesday. "
    "How many apples does it sell in the three days?",
    "A pool is {a} m long, {b} m wide and {d} m deep. How many cubic meters of water does it hold?",
    "{who} runs {b} laps of {x} meters every day. How many kilometers does {who} run in {c} days?",
    "A bus has {x} seats. At the first stop {a} people get on, at the second {b} more, and {d} get off. "
    "How many seats are free?",
    "Tickets cost ${a} for adults and ${d} for children. A group of {b} adults and {c} children visits. "
    "What do they pay together?",
    "{who} cuts a rope of {z} cm into {d} equal pieces and uses {a} cm of one piece. How much of that piece is left?",
    "A phone plan costs ${x} a month plus ${d} for every gigabyte. What is the bill for {b} gigabytes?",
    "A library has {z} books. {a} shelves hold {b} books each, the rest are in boxes. How many books are in boxes?",
    "{who} scored {x}, {y} and {z} points in three games. What is the average score?",
    "A square garden has a side of {a} m. A fence costs ${b} per meter. What does the fence around the garden cost?",
    "Two trains are {z} km apart and drive towards each other at {x} km/h and {y} km/h. After how many hours do "
    "they meet?",
    "A company packs {z} bottles into crates of {b}. How many full crates are there, and how many bottles are left?",
    "{who} spends half of ${z} on rent, a quarter on food and saves the rest. How much does {who} save?",
]

# -- chat: (form, topics) ---------------------------------------------------------------------------------------------

CHAT = [
    (
        "Give me five tips for {t}.",
        "sleeping better; learning a new language; saving money on groceries; a job interview; keeping houseplants "
        "alive; "
        "working from home; packing a suitcase; public speaking; running a first half marathon; reading more books",
    ),
    (
        "Explain {t} to a ten-year-old.",
        "how rainbows form; why the moon changes its shape; how vaccines work; what inflation is; how the internet "
        "works; "
        "why leaves change color; how airplanes fly; what gravity is; how bees make honey; what a black hole is",
    ),
    (
        "What are the advantages and disadvantages of {t}?",
        "electric cars; living in a big city; online classes; working night shifts; owning a dog; social media; "
        "public transport; a vegetarian diet; remote work; solar panels",
    ),
    (
        "Write a short and polite email in which I {t}.",
        "ask my boss for a day off; thank a colleague for help; cancel a dinner reservation; complain about a late "
        "parcel; "
        "invite neighbors to a barbecue; apologize for missing a meeting; ask a professor for feedback; "
        "apply for a summer internship; remind a client of an unpaid invoice; congratulate a friend on a new job",
    ),
    (
        "Write a short story about {t}.",
        "a lighthouse keeper who finds a letter; a robot that learns to paint; a cat that travels by train; "
        "a lost umbrella; two friends who build a boat; a baker with a secret recipe; a child who talks to clouds; "
        "a clock that runs backwards; an astronaut who misses home; a dragon who is afraid of fire",
    ),
    (
        "What is the difference between {t}?",
        "weather and climate; a virus and a bacterium; baking and roasting; a crocodile and an alligator; "
        "a debit card and a credit card; jam and jelly; a novel and a short story; a lake and a pond; mass and weight; "
        "an artist and a craftsman",
    ),
    (
        "How do I {t}? Give me the steps.",
        "change a bicycle tire; make pancakes; remove a coffee stain from a shirt; start a blog; plan a birthday "
        "party; "
        "build a campfire; brew green tea; clean a keyboard; tie a tie; grow tomatoes on a balcony",
    ),
    (
        "Write a poem of eight lines about {t}.",
        "the sea in winter; an old bookstore; the first snow; a morning in the mountains; friendship; a busy market; "
        "the night sky; autumn rain; a quiet garden; the road home",
    ),
    (
        "Why is {t} important? Answer in one paragraph.",
        "regular exercise; biodiversity; a good night's sleep; learning history; clean drinking water; "
        "a free press; music education; recycling; teamwork; eating breakfast",
    ),
    (
        "Suggest a {t}.",
        "weekend trip for a family with small children; healthy breakfast for a busy week; name for a small coffee "
        "shop; "
        "rainy day activity for two; simple workout for beginners; dinner menu for six guests; hobby for a shy "
        "teenager; "
        "gift for a grandfather who likes gardening; daily routine for a student; theme for a school play",
    ),
    (
        "Tell me about {t}.",
        "the planet Saturn; the history of chocolate; penguins; the Roman Empire; the city of Lisbon; volcanoes; "
        "the invention of the printing press; the Amazon rainforest; jazz music; the human heart",
    ),
    (
        "I feel {t}. What can I do?",
        "stressed before exams; lonely in a new city; tired every afternoon; nervous about a presentation; "
        "bored with my job; distracted by my phone; sad after moving away; angry with my roommate; "
        "unsure about my career; overwhelmed by housework",
    ),
    (
        "Describe {t} in a few sentences.",
        "a typical day of a veterinarian; your ideal holiday; a busy train station; a medieval castle; "
        "the taste of a ripe mango; a storm at sea; a traditional wedding; a modern kitchen; life on a farm; "
        "the sound of a city at night",
    ),
    (
        "Write a product description for {t}.",
        "a waterproof backpack; a wooden desk lamp; a set of ceramic mugs; a pair of running shoes; an electric "
        "kettle; "
        "a reusable water bottle; a board game for families; a wool blanket; a travel guitar; a garden chair",
    ),
    (
        "What should I know about {t} before I begin?",
        "investing money; adopting a cat; learning the piano; baking bread; photography; yoga; hiking alone; "
        "keeping bees; buying a used car; volunteering abroad",
    ),
    (
        "Summarize what you know about {t} in five sentences.",
        "the water cycle; the French Revolution; photosynthesis; the Olympic Games; the human brain; earthquakes; "
        "renewable energy; the Great Wall of China; Shakespeare; the theory of evolution",
    ),
    (
        "Write a dialogue between {t}.",
        "a customer and a shoe seller; a teacher and a late student; two old friends at a station; a doctor and a "
        "patient; "
        "a tourist and a local; a parent and a child about bedtime; a chef and a new waiter; "
        "a librarian and a curious reader; two neighbors about a noisy party; a gardener and a talking tree",
    ),
]


def code() -> Iterator[str]:
    """Functions, classes, explanations and scripts."""
    for i, (name, does) in enumerate(TASKS):
        for form in (CODE_FORMS[i % 2], *CODE_FORMS[2:]) if i % 3 else CODE_FORMS:
            yield form.format(name=name, does=does)
    for name, methods in CLASSES:
        yield f"Write a Python class {name} with methods for {methods}."
        yield f"Write a Python class {name} with methods for {methods}, and show how to use it."
    for snippet in SNIPPETS:
        for form in SNIPPET_FORMS:
            yield form.format(code=snippet)
    for _, does in TASKS[::2]:
        yield f"Write a small Python script that asks the user for input and then {does}."


def numbers(problem: int, variant: int) -> dict[str, object]:
    """Slot values that differ from problem to problem and variant to variant, of the size their slot asks for."""
    k = 7 * problem + 13 * variant
    a, b, c, d = 3 + k % 11, 4 + k % 7, 5 + k % 9, 2 + k % 4
    root = 2 + k % 8
    return {
        "who": NAMES[k % len(NAMES)], "a": a, "b": b, "c": c, "d": d,
        "x": 40 + 5 * (k % 9), "y": 20 + 4 * (k % 6), "z": 240 + 60 * (k % 7), "p": 10 * (1 + k % 5),
        "v": a * root + b, "w": a * (root + 1),
    }  # fmt: skip


def math() -> Iterator[str]:
    """Every problem with five sets of numbers."""
    for variant in range(5):
        for i, problem in enumerate(PROBLEMS):
            yield problem.format(**numbers(i, variant))


def chat() -> Iterator[str]:
    """Every form with its ten topics."""
    for form, topics in CHAT:
        for topic in topics.split("; "):
            yield form.format(t=topic.strip())


def main(path: str) -> None:
    """Write the prompt file."""
    lines = []
    for domain, prompts in (("code", code()), ("math", math()), ("chat", chat())):
        for number, prompt in enumerate(dict.fromkeys(prompts), start=1):
            row = {"id": f"distill-{domain}-{number:03}", "domain": domain, "prompt": prompt}
            lines.append(json.dumps(row, ensure_ascii=False))
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
